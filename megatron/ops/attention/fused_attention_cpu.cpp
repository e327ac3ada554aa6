// CPU kernels of fused attention, forward (FlashAttention-2: each block of queries iterates over
// blocks of keys with a running maximum and sum; Dao, 2023, arXiv:2307.08691). Keys and values are
// packed for block_gemm once; then every block of queries of every head is one task.
#include <cmath>
#include <limits>

#include "megatron/ops/attention/fused_attention_tasks.h"

namespace megatron::kernels {

namespace {

template <typename T>
struct ForwardCall {
  using A = lanes::accumulation_t<T>;
  const FusedAttentionShape& shape;
  const AttentionInputs<T>& in;
  HeadView<T> out;
  A* lse;
  int64_t d, dv;  // padded
  KeyBlocks blocks;
  AlignedBuffer<T> keys;    // [tiles][d, kKeyBlock] transposed, as B
  AlignedBuffer<T> values;  // [tiles][kKeyBlock, dv] as B

  ForwardCall(const FusedAttentionShape& shape, const AttentionInputs<T>& in, HeadView<T> out,
              A* lse)
      : shape(shape),
        in(in),
        out(out),
        lse(lse),
        d(padded_width(shape.d)),
        dv(padded_width(shape.dv)),
        blocks(shape),
        keys(blocks.tiles() * d * kKeyBlock),
        values(blocks.tiles() * kKeyBlock * dv) {}
};

// Buffers of one thread.
template <typename T>
struct ForwardScratch {
  using A = lanes::accumulation_t<T>;
  AlignedBuffer<T> queries;  // [kQueryBlock, d]
  AlignedBuffer<A> scores;   // [kQueryBlock, kKeyBlock]
  AlignedBuffer<T> probs;    // [kQueryBlock, kKeyBlock]
  AlignedBuffer<A> sums;     // [kQueryBlock, dv]
  A maximum[kQueryBlock];
  lanes::Vector<T> total[kQueryBlock];  // per lane; reduced at the end
  uint32_t words[kKeyBlock + 128];

  explicit ForwardScratch(const ForwardCall<T>& call)
      : queries(kQueryBlock * call.d),
        scores(kQueryBlock * kKeyBlock),
        probs(kQueryBlock * kKeyBlock),
        sums(kQueryBlock * call.dv) {}
};

template <typename T>
void pack_keys_and_values(const ForwardCall<T>& call, const AttentionTask& task) {
  const AttentionSequence& sequence = call.shape.sequences[task.sequence];
  const int64_t first = task.block * kKeyBlock;
  const int64_t count = std::min(kKeyBlock, sequence.keys - first);
  const int64_t tile = call.blocks.tile(task.sequence, task.head, task.block);
  const auto& [q, k, v, sink] = call.in;
  const int64_t token = sequence.first_key + first;
  pack_transposed(k.at(token, sequence.batch, task.head), k.token, count, call.shape.d,
                  call.keys.data() + tile * call.d * kKeyBlock, kKeyBlock, call.d);
  pack_rows(v.at(token, sequence.batch, task.head), v.token, count, call.shape.dv,
            call.values.data() + tile * kKeyBlock * call.dv, kKeyBlock, call.dv);
}

// Turns one row of scores into probabilities relative to the running maximum, and updates the
// maximum, the running sum and the weighted values. Only columns first .. last - 1 are visible.
template <typename T, typename A>
MEGATRON_INLINE void online_softmax(const A* scores, T* probs, int64_t columns, int64_t first,
                                    int64_t last, A scale, A& maximum, lanes::Vector<T>& total,
                                    A* sums, int64_t width) {
  using V = lanes::Vector<T>;
  constexpr int step = lanes::width<T>;
  constexpr A lowest = -std::numeric_limits<A>::infinity();
  const bool all = first == 0 && last == columns;
  V largest = lanes::broadcast<T>(lowest);
  if (all) {
    for (int64_t i = 0; i < columns; i += step) {
      largest = lanes::maximum(lanes::load<A>(scores + i), largest);
    }
  } else {
    for (int64_t i = first / step * step; i < last; i += step) {
      const V value = inside<T>(i, first, last) ? lanes::load<A>(scores + i) : V{} + lowest;
      largest = lanes::maximum(value, largest);
    }
  }
  const A kept = maximum;
  maximum = std::max(kept, lanes::max_lanes(largest) * scale);
  V sum = {};
  if (all) {
    for (int64_t i = 0; i < columns; i += step) {
      const V p = lanes::exp2(lanes::load<A>(scores + i) * scale - maximum);
      sum += p;
      store_row<T>(probs + i, p);
    }
  } else {
    for (int64_t i = 0; i < columns; i += step) {
      V p = lanes::exp2(lanes::load<A>(scores + i) * scale - maximum);
      p = inside<T>(i, first, last) ? p : V{};
      sum += p;
      store_row<T>(probs + i, p);
    }
  }
  if (kept == maximum) {
    total += sum;
    return;
  }
  const A shrink = kept == lowest ? A(0) : std::exp2(kept - maximum);
  total = total * shrink + sum;
  for (int64_t i = 0; i < width; i += step) {
    lanes::store<A>(sums + i, lanes::load<A>(sums + i) * shrink);
  }
}

template <typename T>
void drop_row(const DropoutRows& rows, const uint32_t* words, int64_t count, T* probs) {
  using A = lanes::accumulation_t<T>;
  const auto scale = lanes::broadcast<T>(static_cast<A>(rows.scale));
  for (int64_t i = 0; i < count; i += lanes::width<T>) {
    lanes::store<T>(probs + i, keep(words + i, rows.threshold, lanes::load<T>(probs + i), scale));
  }
}

template <typename T>
void attend(const ForwardCall<T>& call, const AttentionTask& task, ForwardScratch<T>& scratch) {
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

  copy_rows(q.at(token, batch, task.head), q.token, rows, shape.d, scratch.queries.data(),
            padded_rows, d);
  A* sums = scratch.sums.data();
  // The sink acts as a key with value zero that every row has already seen.
  std::fill_n(scratch.maximum, rows,
              sink == nullptr ? -std::numeric_limits<A>::infinity()
                              : sink[task.head] * static_cast<A>(kLog2E));
  lanes::Vector<T> total = {};
  total[0] = sink == nullptr ? A(0) : A(1);
  std::fill_n(scratch.total, rows, total);

  const int64_t first_key = visible_keys(shape, sequence, first_query).first;
  const int64_t last_key = visible_keys(shape, sequence, first_query + rows - 1).last;
  const int64_t group = task.head / (shape.n / shape.g);
  bool started = false;
  for (int64_t block = first_key / kKeyBlock; block * kKeyBlock < last_key; ++block) {
    const int64_t key = block * kKeyBlock;
    const int64_t columns = std::min(kKeyBlock, round_up(last_key - key, kColumnStep));
    const int64_t tile = call.blocks.tile(task.sequence, group, block);
    A* scores = scratch.scores.data();
    T* probs = scratch.probs.data();
    block_gemm<T>(padded_rows, columns, d, scratch.queries.data(), d,
                  call.keys.data() + tile * d * kKeyBlock, kKeyBlock, scores, kKeyBlock,
                  /*accumulate=*/false);
    for (int64_t i = 0; i < rows; ++i) {
      const KeyRange visible = visible_keys(shape, sequence, first_query + i);
      const int64_t first = std::clamp<int64_t>(visible.first - key, 0, columns);
      const int64_t last = std::clamp<int64_t>(visible.last - key, 0, columns);
      T* row = probs + i * kKeyBlock;
      if (first >= last) {
        std::fill_n(row, columns, T(0));
        continue;
      }
      cap_scores<T>(shape, scores + i * kKeyBlock, columns);
      online_softmax<T, A>(scores + i * kKeyBlock, row, columns, first, last, scale,
                           scratch.maximum[i], scratch.total[i], sums + i * dv, started ? dv : 0);
      if (shape.dropout != nullptr) {
        const int64_t drawn = (batch * shape.n + task.head) * shape.sq + token + i;
        drop_row<T>(*shape.dropout, draw_keys(shape, sequence, drawn, key, columns, scratch.words),
                    columns, row);
      }
    }
    block_gemm<T>(padded_rows, dv, columns, probs, kKeyBlock,
                  call.values.data() + tile * kKeyBlock * dv, dv, sums, dv, started);
    started = true;
  }

  A* lse = call.lse + (batch * shape.n + task.head) * shape.sq + token;
  for (int64_t i = 0; i < rows; ++i) {
    T* to = call.out.at(token + i, batch, task.head);
    const A total = lanes::sum_lanes(scratch.total[i]);
    if (!started || !(total > 0 || std::isnan(total))) {
      std::fill_n(to, shape.dv, T(0));
    } else {
      const A factor = 1 / total;
      lanes::for_each_vector<T>(shape.dv, [&](int64_t c, auto count) {
        lanes::store<T>(to + c, lanes::load<A>(sums + i * dv + c, count) * factor, count);
      });
    }
    lse[i] =
        total == 0 ? -std::numeric_limits<A>::infinity() : scratch.maximum[i] + std::log2(total);
  }
}

// Alternates early and late blocks of queries, since those see few and many keys.
std::vector<AttentionTask> query_tasks(const FusedAttentionShape& shape) {
  std::vector<AttentionTask> tasks;
  for (int64_t s = 0; s < static_cast<int64_t>(shape.sequences.size()); ++s) {
    const int64_t blocks = ceil_div(shape.sequences[s].queries, kQueryBlock);
    for (int64_t head = 0; head < shape.n; ++head) {
      for (int64_t i = 0; i < blocks; ++i) {
        tasks.push_back({s, head, i % 2 == 0 ? i / 2 : blocks - 1 - i / 2});
      }
    }
  }
  return tasks;
}

}  // namespace

template <KernelLevel level, typename T>
void fused_attention_forward(const FusedAttentionShape& shape, const AttentionInputs<T>& in,
                             HeadView<T> out, lanes::accumulation_t<T>* lse) {
  const ForwardCall<T> call(shape, in, out, lse);
  const std::vector<AttentionTask> keys = key_tasks(shape);
  parallel_for(0, keys.size(), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) pack_keys_and_values(call, keys[i]);
  });
  const std::vector<AttentionTask> queries = query_tasks(shape);
  for_each_task<ForwardScratch<T>>(
      queries.size(), call,
      [&](int64_t i, ForwardScratch<T>& scratch) { attend(call, queries[i], scratch); });
}

#define MEGATRON_INSTANTIATE(T)                                                               \
  template void fused_attention_forward<kKernelLevel>(const FusedAttentionShape&,             \
                                                      const AttentionInputs<T>&, HeadView<T>, \
                                                      lanes::accumulation_t<T>*);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
