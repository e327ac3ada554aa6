#include "megatron/ops/decode/paged_attention.h"

#include <numeric>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

struct PagedHeads {
  int64_t n = 4, g = 2, d = 16;
};

// A sequence with its keys and values, and the blocks that hold them.
struct PagedSequence {
  at::Tensor k, v;  // [length, g, d]
  std::vector<int64_t> blocks;
  int64_t new_tokens = 1;

  int64_t position() const { return k.size(0) - new_tokens; }
};

struct PagedSetting {
  PagedHeads heads = {};
  int64_t block_size = 16, window = -1;
  double soft_cap = 0;
  bool has_sinks = false;
  at::ScalarType dtype = at::kFloat;
};

class PagedWorld {
 public:
  // Lengths and new tokens of the sequences. Blocks are dealt out in a scattered order.
  PagedWorld(const PagedSetting& setting, std::vector<std::pair<int64_t, int64_t>> sequences)
      : setting_(setting),
        cache_({.layers = 2,
                .groups = setting.heads.g,
                .head_dim = setting.heads.d,
                .block_size = setting.block_size,
                .num_blocks = 67,
                .dtype = setting.dtype}) {
    uint64_t seed = 10;
    int64_t next = 5;
    for (const auto& [length, new_tokens] : sequences) {
      const auto& [n, g, d] = setting.heads;
      PagedSequence sequence{.k = random_tensor({length, g, d}, setting.dtype, seed++),
                             .v = random_tensor({length, g, d}, setting.dtype, seed++),
                             .blocks = {},
                             .new_tokens = new_tokens};
      for (int64_t i = 0; i * setting.block_size < length; ++i, next = (next + 13) % 67)
        sequence.blocks.push_back(next);
      store(sequence);
      sequences_.push_back(std::move(sequence));
    }
    sinks_ = random_tensor({setting.heads.n}, at::kFloat, 3);
  }

  // Queries [tokens, n, d] of all sequences in order.
  at::Tensor queries() const {
    const auto& [n, g, d] = setting_.heads;
    return random_tensor({tokens(), n, d}, at::kFloat, 4) * 0.3;
  }
  int64_t tokens() const {
    int64_t total = 0;
    for (const PagedSequence& sequence : sequences_) total += sequence.new_tokens;
    return total;
  }
  const std::vector<PagedSequence>& sequences() const { return sequences_; }

  // Attention of some tokens of each sequence: [first, first + count) of its new ones.
  struct Part {
    int64_t sequence, first, count;
  };
  at::Tensor attend(const at::Tensor& queries, const std::vector<Part>& parts) const {
    const auto& [n, g, d] = setting_.heads;
    std::vector<PagedQueries> plan;
    std::vector<at::Tensor> rows;
    int64_t count = 0;
    for (const Part& part : parts) {
      const PagedSequence& sequence = sequences_[part.sequence];
      int64_t offset = 0;
      for (int64_t i = 0; i < part.sequence; ++i) offset += sequences_[i].new_tokens;
      plan.push_back({.first_token = count,
                      .tokens = part.count,
                      .position = sequence.position() + part.first,
                      .blocks = sequence.blocks.data()});
      rows.push_back(queries.narrow(0, offset + part.first, part.count));
      count += part.count;
    }
    const at::Tensor by_group =
        at::cat(rows).view({count, g, n / g, d}).permute({1, 0, 2, 3}).contiguous();
    const at::Tensor out = at::empty({count, n * d}, at::kFloat);
    PagedAttention attention(cache_, n, setting_.window);
    attention.plan(plan, count);
    run_team([&](ThreadTeam& team) {
      attention.run(team, {.layer = 1,
                           .queries = by_group.const_data_ptr<float>(),
                           .soft_cap = static_cast<float>(setting_.soft_cap),
                           .sinks = setting_.has_sinks ? sinks_.const_data_ptr<float>() : nullptr,
                           .out = out.data_ptr<float>()});
    });
    return out;
  }
  at::Tensor attend_all(const at::Tensor& queries) const {
    std::vector<Part> parts;
    for (size_t i = 0; i < sequences_.size(); ++i)
      parts.push_back({static_cast<int64_t>(i), 0, sequences_[i].new_tokens});
    return attend(queries, parts);
  }

  // The same over dense keys in fp64: [tokens, n * d].
  at::Tensor reference(const at::Tensor& queries) const {
    const auto& [n, g, d] = setting_.heads;
    std::vector<at::Tensor> rows;
    int64_t first = 0;
    for (const PagedSequence& sequence : sequences_) {
      const int64_t length = sequence.k.size(0), count = sequence.new_tokens;
      const auto by_head = [&, heads = n / g](const at::Tensor& x) {
        return x.to(at::kDouble).repeat_interleave(heads, /*dim=*/1).transpose(0, 1);
      };
      const at::Tensor q = queries.narrow(0, first, count).to(at::kDouble).transpose(0, 1);
      at::Tensor scores = at::matmul(q, by_head(sequence.k).transpose(1, 2));  // [n, count, length]
      if (setting_.soft_cap > 0) scores = at::tanh(scores / setting_.soft_cap) * setting_.soft_cap;
      const at::Tensor keys = at::arange(length).unsqueeze(0),
                       positions = at::arange(sequence.position(), length).unsqueeze(1);
      at::Tensor hidden = keys > positions;
      if (setting_.window >= 0) hidden = hidden.logical_or(keys < positions - setting_.window);
      scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
      if (setting_.has_sinks) {
        const at::Tensor sink = sinks_.to(at::kDouble).view({n, 1, 1}).expand({n, count, 1});
        scores = at::cat({scores, sink}, 2);
      }
      const at::Tensor weights = scores.softmax(2).narrow(2, 0, length);
      rows.push_back(
          at::matmul(weights, by_head(sequence.v)).transpose(0, 1).reshape({count, n * d}));
      first += count;
    }
    return at::cat(rows);
  }

 private:
  void store(const PagedSequence& sequence) {
    const at::Tensor k = sequence.k.to(at::kFloat), v = sequence.v.to(at::kFloat);
    with_kernel_level([&](auto level) {
      constexpr KernelLevel kLevel = decltype(level)::value;
      for (int64_t i = 0; i < k.size(0); ++i) {
        for (int64_t group = 0; group < k.size(1); ++group) {
          const auto write = [&](auto value) {
            kernels::store_key_value<kLevel>(
                cache_.layer<decltype(value)>(1), sequence.blocks[i / setting_.block_size],
                i % setting_.block_size, group, k[i][group].const_data_ptr<float>(),
                v[i][group].const_data_ptr<float>());
          };
          if (setting_.dtype == at::kBFloat16) {
            write(c10::BFloat16{});
          } else if (setting_.dtype == at::kHalf) {
            write(c10::Half{});
          } else {
            write(float{});
          }
        }
      }
    });
  }

  PagedSetting setting_;
  PagedCache cache_;
  std::vector<PagedSequence> sequences_;
  at::Tensor sinks_;
};

// Decode at several lengths, beside chunks of prompts.
const std::vector<std::pair<int64_t, int64_t>> kMixed = {{1, 1},   {16, 1},   {129, 1}, {300, 1},
                                                         {40, 40}, {150, 23}, {130, 5}};

std::vector<PagedSetting> paged_settings() {
  return {{},
          {.heads = {.n = 3, .g = 3, .d = 64}, .block_size = 24},
          {.heads = {.n = 9, .g = 3, .d = 20}, .block_size = 16, .window = 30},
          {.heads = {.n = 6, .g = 1, .d = 7}, .block_size = 5 * 8, .window = 200, .soft_cap = 2},
          {.heads = {.n = 8, .g = 2, .d = 80}, .block_size = 64, .has_sinks = true},
          {.heads = {.n = 20, .g = 1, .d = 32}, .block_size = 256, .window = 0, .has_sinks = true}};
}

TEST(PagedAttention, EqualsDenseAttentionInDoublePrecision) {
  for (PagedSetting setting : paged_settings()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      setting.dtype = dtype;
      SCOPED_TRACE(testing::Message() << "d " << setting.heads.d << ", block " << setting.block_size
                                      << ", dtype " << c10::toString(dtype));
      const PagedWorld world(setting, kMixed);
      const at::Tensor queries = world.queries();
      expect_close(world.attend_all(queries).to(at::kDouble), world.reference(queries), 5e-6);
    }
  }
}

TEST(PagedAttention, ARowDoesNotDependOnTheOthers) {
  for (const PagedSetting& setting : paged_settings()) {
    const PagedWorld world(setting, kMixed);
    const at::Tensor queries = world.queries(), together = world.attend_all(queries);
    int64_t first = 0;
    for (int64_t i = 0; i < std::ssize(world.sequences()); ++i) {
      for (int64_t token = 0; token < world.sequences()[i].new_tokens; token += 3) {
        const int64_t count =
            std::min<int64_t>(token % 2 == 0 ? 1 : 3, world.sequences()[i].new_tokens - token);
        expect_identical(world.attend(queries, {{i, token, count}}),
                         together.narrow(0, first + token, count));
      }
      first += world.sequences()[i].new_tokens;
    }
  }
}

TEST(PagedAttention, DoesNotDependOnTheNumberOfThreads) {
  const PagedWorld world({}, kMixed);
  const at::Tensor queries = world.queries(), expected = world.attend_all(queries);
  const int threads = at::get_num_threads();
  for (const int other : {1, 3}) {
    at::set_num_threads(other);
    expect_identical(world.attend_all(queries), expected);
  }
  at::set_num_threads(threads);
}

TEST(PagedCache, CopiesABlockOfAllLayers) {
  PagedCache cache({.layers = 2, .groups = 3, .head_dim = 5, .block_size = 8, .num_blocks = 4});
  const auto first_key = [&](int64_t layer, int64_t block) -> float& {
    const auto view = cache.layer<float>(layer);
    return view.keys[block * view.groups * view.d * view.slots];
  };
  first_key(0, 1) = 3;
  first_key(1, 1) = 4;
  cache.copy_block(1, 3);
  EXPECT_EQ(first_key(0, 3), 3);
  EXPECT_EQ(first_key(1, 3), 4);
  EXPECT_EQ(first_key(1, 2), 0);
  EXPECT_THROW(cache.copy_block(0, 4), Error);
  EXPECT_THROW(PagedCache({.layers = 1, .groups = 1, .head_dim = 5, .block_size = 8}), Error);
}

}  // namespace
}  // namespace megatron::test
