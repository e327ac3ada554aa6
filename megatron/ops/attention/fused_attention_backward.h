// Backward pass of fused attention through one block of queries. Only kernel files (*_cpu.cpp)
// include it.
#pragma once

#include <cmath>

#include "megatron/ops/attention/fused_attention_tasks.h"

namespace megatron::kernels {
inline namespace MEGATRON_KERNEL_LEVEL {

inline constexpr int64_t kEnoughTasks = 16;
inline constexpr int64_t kBlocksPerSplit = 4;  // blocks of queries that justify separate sums

template <typename T>
struct BackwardCall {
  using A = lanes::accumulation_t<T>;
  const FusedAttentionShape& shape;
  const AttentionInputs<T>& in;
  HeadView<const T> out, grad_out;
  const A* lse;
  const AttentionGradients<T>& gradients;
  int64_t d, dv;  // padded
  KeyBlocks blocks;
  int64_t splits;               // of the queries of each key-value head
  AlignedBuffer<A> split_sums;  // [tiles][splits][d + dv, kKeyBlock] if there are several splits
  AlignedBuffer<A> sink_sums;   // [b, n, sq], set in the first row of each block of queries

  BackwardCall(const FusedAttentionShape& shape, const AttentionInputs<T>& in,
               HeadView<const T> out, HeadView<const T> grad_out, const A* lse,
               const AttentionGradients<T>& gradients)
      : shape(shape),
        in(in),
        out(out),
        grad_out(grad_out),
        lse(lse),
        gradients(gradients),
        d(padded_width(shape.d)),
        dv(padded_width(shape.dv)),
        blocks(shape),
        splits(count_splits(shape)),
        split_sums(splits > 1 ? blocks.tiles() * splits * (d + dv) * kKeyBlock : 0),
        sink_sums(in.sink == nullptr ? 0 : shape.b * shape.n * shape.sq) {}

  static int64_t count_splits(const FusedAttentionShape& shape) {
    int64_t longest = 0;
    for (const AttentionSequence& s : shape.sequences) longest = std::max(longest, s.queries);
    const int64_t blocks = ceil_div(longest, kQueryBlock) * (shape.n / shape.g);
    const int64_t heads = static_cast<int64_t>(shape.sequences.size()) * shape.g;
    return std::max<int64_t>(1, std::min(ceil_div(kEnoughTasks, heads), blocks / kBlocksPerSplit));
  }
};

// Buffers of one thread.
template <typename T>
struct BackwardScratch {
  using A = lanes::accumulation_t<T>;
  // Tiles of the current key-value head.
  AlignedBuffer<T> keys_transposed;    // [tiles][d, kKeyBlock] as B
  AlignedBuffer<T> values_transposed;  // [tiles][dv, kKeyBlock] as B
  AlignedBuffer<T> keys;               // [tiles][kKeyBlock, d] as B
  AlignedBuffer<A> local_sums;         // [tiles][d + dv, kKeyBlock]: dK and dV transposed
  A* sums;                             // local_sums or the split's; sum_stride between tiles
  int64_t sum_stride;
  // The current block of queries.
  AlignedBuffer<T> queries, queries_transposed;  // [kQueryBlock, d], [d, kQueryBlock] as A
  AlignedBuffer<T> grads, grads_transposed;      // of dO, with dv
  AlignedBuffer<A> scores, grad_probs;           // [kQueryBlock, kKeyBlock]
  AlignedBuffer<T> probs;                        // as B
  AlignedBuffer<T> grad_scores;                  // as A
  AlignedBuffer<T> grad_scores_packed;           // as B
  AlignedBuffer<A> grad_queries;                 // [kQueryBlock, d]
  A projection[kQueryBlock];                     // D
  uint32_t words[2][kKeyBlock + 128];

  explicit BackwardScratch(const BackwardCall<T>& call)
      : BackwardScratch(call.d, call.dv, call.blocks.most_in_sequence(), call.splits == 1) {}

 private:
  BackwardScratch(int64_t d, int64_t dv, int64_t tiles, bool sums_here)
      : keys_transposed(tiles * d * kKeyBlock),
        values_transposed(tiles * dv * kKeyBlock),
        keys(tiles * d * kKeyBlock),
        local_sums(sums_here ? tiles * (d + dv) * kKeyBlock : 0),
        queries(kQueryBlock * d),
        queries_transposed(kQueryBlock * d),
        grads(kQueryBlock * dv),
        grads_transposed(kQueryBlock * dv),
        scores(kQueryBlock * kKeyBlock),
        grad_probs(kQueryBlock * kKeyBlock),
        probs(kQueryBlock * kKeyBlock),
        grad_scores(kQueryBlock * kKeyBlock),
        grad_scores_packed(kQueryBlock * kKeyBlock),
        grad_queries(kQueryBlock * d) {}
};

// The scores of one query against a block of keys.
template <typename A>
struct RowOfScores {
  const A *scores, *grad_probs;
  A lse, projection;
  int64_t first, last;    // visible columns
  const uint32_t* words;  // of dropout, or null
  bool capped;            // scores are shares of the soft cap
};

// Returns dS of one vector of a row; `p` receives the probability after dropout.
template <typename T, typename A>
MEGATRON_INLINE lanes::Vector<T> grad_score(const RowOfScores<A>& row, int64_t i, bool all, A scale,
                                            const DropoutRows* dropout, lanes::Vector<T>& p) {
  using V = lanes::Vector<T>;
  const V score = lanes::load<A>(row.scores + i);
  p = lanes::exp2(score * scale - row.lse);
  if (!all) p = inside<T>(i, row.first, row.last) ? p : V{};
  // Of the product of query and key: the cap's derivative is 1 - share^2.
  const V slope = row.capped ? 1 - score * score : lanes::broadcast<T>(1);
  V grad = lanes::load<A>(row.grad_probs + i);
  if (row.words == nullptr) return p * slope * (grad - row.projection);
  const V kept = lanes::broadcast<T>(static_cast<A>(dropout->scale));
  grad = keep(row.words + i, dropout->threshold, grad, kept);
  const V before = p;
  p = keep(row.words + i, dropout->threshold, p, kept);
  return before * slope * (grad - row.projection);
}

// Handles two rows, since block_gemm's bf16 B interleaves pairs of rows.
template <typename T, typename A>
MEGATRON_INLINE void softmax_backward(const RowOfScores<A>& even, const RowOfScores<A>& odd,
                                      int64_t row, int64_t columns, A scale,
                                      const DropoutRows* dropout, T* probs, T* grad_scores,
                                      T* packed) {
  const auto loop = [&](bool all) __attribute__((always_inline)) {
    for (int64_t i = 0; i < columns; i += lanes::width<T>) {
      lanes::Vector<T> p0, p1;
      const auto g0 = grad_score<T>(even, i, all, scale, dropout, p0);
      const auto g1 = grad_score<T>(odd, i, all, scale, dropout, p1);
      store_pair<T>(probs, kKeyBlock, row, i, p0, p1);
      store_row<T>(grad_scores + row * kKeyBlock + i, g0);
      store_row<T>(grad_scores + (row + 1) * kKeyBlock + i, g1);
      if (packed != grad_scores) store_pair<T>(packed, kKeyBlock, row, i, g0, g1);
    }
  };
  if (std::max(even.first, odd.first) == 0 && std::min(even.last, odd.last) == columns) {
    loop(/*all=*/true);
  } else {
    loop(/*all=*/false);
  }
}

// One block of a head's queries: its dQ and its contribution to dK, dV and the sink's gradient.
template <typename T>
void backward_block(const BackwardCall<T>& call, const AttentionTask& task,
                    BackwardScratch<T>& scratch) {
  using A = lanes::accumulation_t<T>;
  const FusedAttentionShape& shape = call.shape;
  const AttentionSequence& sequence = shape.sequences[task.sequence];
  const int64_t first_query = task.block * kQueryBlock;
  const int64_t rows = std::min(kQueryBlock, sequence.queries - first_query);
  const int64_t padded_rows = round_up(rows, kRowStep);
  const int64_t token = sequence.first_query + first_query, batch = sequence.batch;
  const int64_t d = call.d, dv = call.dv;
  const auto& [q, k, v, sink] = call.in;
  const A scale = exponent_scale<A>(shape);
  const int64_t line = (batch * shape.n + task.head) * shape.sq + token;
  const A* lse = call.lse + line;

  const T* query = q.at(token, batch, task.head);
  const T* grad = call.grad_out.at(token, batch, task.head);
  const int64_t grad_stride = call.grad_out.token;
  copy_rows(query, q.token, rows, shape.d, scratch.queries.data(), padded_rows, d);
  transpose_rows(query, q.token, rows, shape.d, scratch.queries_transposed.data(), padded_rows, d);
  copy_rows(grad, grad_stride, rows, shape.dv, scratch.grads.data(), padded_rows, dv);
  transpose_rows(grad, grad_stride, rows, shape.dv, scratch.grads_transposed.data(), padded_rows,
                 dv);
  A sink_sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const T* out = call.out.at(token + i, batch, task.head);
    lanes::Vector<T> sum = {};
    lanes::for_each_vector<T>(shape.dv, [&](int64_t c, auto count) {
      sum += lanes::load<T>(out + c, count) * lanes::load<T>(grad + i * grad_stride + c, count);
    });
    scratch.projection[i] = lanes::sum_lanes(sum);
    if (sink != nullptr) {
      sink_sum -=
          std::exp2(sink[task.head] * static_cast<A>(kLog2E) - lse[i]) * scratch.projection[i];
    }
  }
  if (sink != nullptr) call.sink_sums.data()[line] = sink_sum;

  const int64_t first_key = visible_keys(shape, sequence, first_query).first;
  const int64_t last_key = visible_keys(shape, sequence, first_query + rows - 1).last;
  bool started = false;
  for (int64_t block = first_key / kKeyBlock; block * kKeyBlock < last_key; ++block) {
    const int64_t key = block * kKeyBlock;
    const int64_t columns = std::min(kKeyBlock, round_up(last_key - key, kColumnStep));
    T *probs, *grad_scores, *packed;
    if constexpr (std::is_same_v<T, A>) {
      probs = scratch.scores.data();
      grad_scores = packed = scratch.grad_probs.data();
    } else {
      probs = scratch.probs.data();
      grad_scores = scratch.grad_scores.data();
      packed = scratch.grad_scores_packed.data();
    }
    block_gemm<T>(padded_rows, columns, d, scratch.queries.data(), d,
                  scratch.keys_transposed.data() + block * d * kKeyBlock, kKeyBlock,
                  scratch.scores.data(), kKeyBlock, /*accumulate=*/false);
    block_gemm<T>(padded_rows, columns, dv, scratch.grads.data(), dv,
                  scratch.values_transposed.data() + block * dv * kKeyBlock, kKeyBlock,
                  scratch.grad_probs.data(), kKeyBlock, /*accumulate=*/false);
    const auto row_of = [&](int64_t i) {
      if (i >= rows) return RowOfScores<A>{scratch.scores.data(), scratch.grad_probs.data()};
      cap_scores<T>(shape, scratch.scores.data() + i * kKeyBlock, columns);
      const KeyRange visible = visible_keys(shape, sequence, first_query + i);
      RowOfScores<A> row{.scores = scratch.scores.data() + i * kKeyBlock,
                         .grad_probs = scratch.grad_probs.data() + i * kKeyBlock,
                         .lse = lse[i],
                         .projection = scratch.projection[i],
                         .first = std::clamp<int64_t>(visible.first - key, 0, columns),
                         .last = std::clamp<int64_t>(visible.last - key, 0, columns),
                         .words = nullptr,
                         .capped = shape.soft_cap > 0};
      if (shape.dropout != nullptr) {
        row.words = draw_keys(shape, sequence, line + i, key, columns, scratch.words[i % 2]);
      }
      return row;
    };
    for (int64_t i = 0; i < padded_rows; i += 2) {
      softmax_backward<T, A>(row_of(i), row_of(i + 1), i, columns, scale, shape.dropout, probs,
                             grad_scores, packed);
    }
    A* grad_keys = scratch.sums + block * scratch.sum_stride;
    A* grad_values = grad_keys + d * kKeyBlock;
    block_gemm<T>(dv, columns, padded_rows, scratch.grads_transposed.data(), padded_rows, probs,
                  kKeyBlock, grad_values, kKeyBlock, /*accumulate=*/true);
    block_gemm<T>(d, columns, padded_rows, scratch.queries_transposed.data(), padded_rows, packed,
                  kKeyBlock, grad_keys, kKeyBlock, /*accumulate=*/true);
    block_gemm<T>(padded_rows, d, columns, grad_scores, kKeyBlock,
                  scratch.keys.data() + block * d * kKeyBlock, d, scratch.grad_queries.data(), d,
                  started);
    started = true;
  }

  for (int64_t i = 0; i < rows; ++i) {
    T* to = call.gradients.q.at(token + i, batch, task.head);
    if (!started) {
      std::fill_n(to, shape.d, T(0));
      continue;
    }
    const A* from = scratch.grad_queries.data() + i * d;
    lanes::for_each_vector<T>(shape.d, [&](int64_t c, auto count) {
      lanes::store<T>(to + c, lanes::load<A>(from + c, count) * static_cast<A>(shape.scale), count);
    });
  }
}

}  // namespace MEGATRON_KERNEL_LEVEL
}  // namespace megatron::kernels
