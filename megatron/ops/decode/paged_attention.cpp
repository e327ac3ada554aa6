#include "megatron/ops/decode/paged_attention.h"

#include <algorithm>

#include <ATen/Parallel.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"

namespace megatron {
namespace {

using kernels::AttentionPartial;
using kernels::kKeyChunk;

// Rows of a tile, if a token has fewer. Their scores and sums stay in the first-level cache.
constexpr int64_t kTileRows = 16;
// Sequences with up to this many new tokens are split over their keys.
constexpr int64_t kSplitTokens = 8;

template <typename Body>
decltype(auto) dispatch_cache(c10::ScalarType dtype, const Body& body) {
  if (dtype == c10::ScalarType::BFloat16) return body(c10::BFloat16{});
  if (dtype == c10::ScalarType::Half) return body(c10::Half{});
  return body(float{});
}

}  // namespace

PagedAttention::PagedAttention(const PagedCache& cache, int64_t heads, int64_t window)
    : cache_(cache),
      heads_(heads),
      queries_per_group_(divide(heads, cache.shape().groups, "heads over groups")),
      window_(window),
      sums_stride_(round_up(cache.shape().head_dim, int64_t{16})) {}

void PagedAttention::plan(std::span<const PagedQueries> sequences, int64_t tokens) {
  sequences_.assign(sequences.begin(), sequences.end());
  tokens_ = tokens;
  tiles_.clear();
  items_.clear();
  const int64_t groups = cache_.shape().groups;
  const int64_t tile_tokens = std::max<int64_t>(1, kTileRows / queries_per_group_);
  int64_t partials = 0, most_rows = 0, most_partials = 0;
  for (int64_t s = 0; s < std::ssize(sequences_); ++s) {
    const PagedQueries& queries = sequences_[s];
    const bool is_split = queries.tokens <= kSplitTokens;
    const int64_t step = is_split ? 1 : tile_tokens;
    for (int64_t token = 0; token < queries.tokens; token += step) {
      Tile tile{.sequence = s,
                .first_token = queries.first_token + token,
                .tokens = std::min(step, queries.tokens - token),
                .position = queries.position + token,
                .first_chunk = 0,
                .chunks = 0,
                .partials = -1};
      const int64_t end = ceil_div(tile.position + tile.tokens, kKeyChunk);
      if (window_ >= 0)
        tile.first_chunk = std::max<int64_t>(0, tile.position - window_) / kKeyChunk;
      tile.chunks = end - tile.first_chunk;
      most_rows = std::max(most_rows, rows_of(tile));
      if (is_split) {
        tile.partials = partials;
        partials += groups * tile.chunks * rows_of(tile);
      } else {
        most_partials = std::max(most_partials, tile.chunks * rows_of(tile));
      }
      for (int64_t group = 0; group < groups; ++group) {
        for (int64_t chunk = is_split ? 0 : -1; chunk < (is_split ? tile.chunks : 0); ++chunk)
          items_.push_back({std::ssize(tiles_), group, chunk});
      }
      tiles_.push_back(tile);
    }
  }
  const auto grow = [](auto& list, int64_t size) {
    if (std::ssize(list) < size) list.resize(size);
  };
  grow(partials_, partials);
  grow(sums_, partials * sums_stride_);
  grow(scratch_, at::get_num_threads());
  for (Scratch& scratch : scratch_) {
    grow(scratch.scores, kernels::kScoreRows * kernels::kScoreStride);
    grow(scratch.partials, most_partials);
    grow(scratch.sums, most_partials * sums_stride_);
    grow(scratch.first_seen, most_rows);
    grow(scratch.end_seen, most_rows);
  }
}

template <KernelLevel level, typename T>
void PagedAttention::run_item(const Call& call, const Item& item, Scratch& scratch) {
  const Tile& tile = tiles_[item.tile];
  const int64_t rows = rows_of(tile), d = cache_.shape().head_dim;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t position = tile.position + row / queries_per_group_;
    scratch.first_seen[row] = window_ < 0 ? 0 : std::max<int64_t>(0, position - window_);
    scratch.end_seen[row] = position + 1;
  }
  const bool is_split = item.chunk >= 0;
  const int64_t first_row = tile.partials + item.group * tile.chunks * rows;
  AttentionPartial* partials = is_split ? partials_.data() + first_row : scratch.partials.data();
  float* sums = is_split ? sums_.data() + first_row * sums_stride_ : scratch.sums.data();
  const int64_t begin = is_split ? item.chunk : 0, end = is_split ? begin + 1 : tile.chunks;
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const int64_t first = (tile.first_chunk + chunk) * kKeyChunk;
    kernels::attend_chunk<level, T>(
        cache_.layer<T>(call.layer),
        {.queries =
             call.queries + (item.group * tokens_ + tile.first_token) * queries_per_group_ * d,
         .rows = rows,
         .group = item.group,
         .blocks = sequences_[tile.sequence].blocks,
         .first = first,
         .last = std::min(first + kKeyChunk, tile.position + tile.tokens),
         .first_seen = scratch.first_seen.data(),
         .end_seen = scratch.end_seen.data(),
         .soft_cap = call.soft_cap,
         .partials = partials + chunk * rows,
         .partial_stride = 1,
         .sums = sums + chunk * rows * sums_stride_,
         .sums_stride = sums_stride_,
         .scores = scratch.scores.data()});
  }
  if (!is_split) combine<level>(call, tile, item.group, partials, sums);
}

template <KernelLevel level>
void PagedAttention::combine(const Call& call, const Tile& tile, int64_t group,
                             const AttentionPartial* partials, const float* sums) const {
  const int64_t rows = rows_of(tile), d = cache_.shape().head_dim;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = group * queries_per_group_ + row % queries_per_group_;
    const int64_t token = tile.first_token + row / queries_per_group_;
    const float* sink = call.sinks == nullptr ? nullptr : call.sinks + head;
    const auto write = [&](auto* out) {
      kernels::combine_chunks<level>(tile.chunks, d, partials + row, rows,
                                     sums + row * sums_stride_, rows * sums_stride_, sink,
                                     out + (token * heads_ + head) * d);
    };
    if (call.out_dtype == c10::ScalarType::BFloat16) {
      write(static_cast<c10::BFloat16*>(call.out));
    } else {
      write(static_cast<float*>(call.out));
    }
  }
}

void PagedAttention::run(ThreadTeam& team, const Call& call) {
  const int64_t groups = cache_.shape().groups;
  with_kernel_level([&](auto level) {
    constexpr KernelLevel kLevel = decltype(level)::value;
    // Neighbouring items cost about the same, so they go to different threads.
    dispatch_cache(cache_.shape().dtype, [&](auto value) {
      for (int64_t i = team.thread(); i < std::ssize(items_); i += team.size())
        run_item<kLevel, decltype(value)>(call, items_[i], scratch_[team.thread()]);
    });
    team.barrier();
    const WorkRange part = team.part(std::ssize(tiles_) * groups);
    for (int64_t i = part.first; i < part.last; ++i) {
      const Tile& tile = tiles_[i / groups];
      if (tile.partials < 0) continue;
      const int64_t first_row = tile.partials + i % groups * tile.chunks * rows_of(tile);
      combine<kLevel>(call, tile, i % groups, partials_.data() + first_row,
                      sums_.data() + first_row * sums_stride_);
    }
  });
}

}  // namespace megatron
