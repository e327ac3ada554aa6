// The fused attention's backward pass: CPU kernels. The probabilities are computed again from the
// queries, the keys and the saved log-sum-exp. With dP = dO V^T and D = rowsum(dO * O):
//   dS = P * (dP - D),  dQ = scale * dS K,  dK = scale * dS^T Q,  dV = P^T dO,
// and the sink's gradient is -sum over rows of P_sink * D. Under dropout, P in dV and dP carry the
// mask. dK and dV are summed transposed, so that no block of scores has to be.
//
// A task is one key-value head of a sequence, or a part of the queries that share it where there
// are too few; parts are added in their order. Their number depends on the shape alone, so results
// do not depend on the number of threads.
#include <cmath>

#include "megatron/ops/dropout_lanes.h"
#include "megatron/ops/fused_attention_blocks.h"

namespace megatron::kernels {

namespace {

constexpr int64_t kEnoughTasks = 16;
constexpr int64_t kBlocksOfPart = 4;  // queries' blocks that pay for a sum of their own

// One key-value head's share of the work: blocks first .. last - 1 of the queries of its heads.
struct Part {
  int64_t sequence, group;
  int64_t first, last;
};

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
  AlignedBuffer<T> keys_transposed;    // [tiles][d, kKeyBlock] as B
  AlignedBuffer<T> values_transposed;  // [tiles][dv, kKeyBlock] as B
  AlignedBuffer<T> keys;               // [tiles][kKeyBlock, d] as B
  int64_t parts;                       // of each key-value head
  AlignedBuffer<A> sums;               // [tiles][parts][d + dv, kKeyBlock]: dK and dV transposed
  AlignedBuffer<A> sink_sums;          // [sequences][n][blocks of queries]

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
        keys_transposed(blocks.tiles() * d * kKeyBlock),
        values_transposed(blocks.tiles() * dv * kKeyBlock),
        keys(blocks.tiles() * d * kKeyBlock),
        parts(count_parts(shape)),
        sums(blocks.tiles() * parts * (d + dv) * kKeyBlock),
        sink_sums(shape.b * shape.n * shape.sq) {}

  static int64_t count_parts(const FusedAttentionShape& shape) {
    int64_t longest = 0;
    for (const AttentionSequence& s : shape.sequences) longest = std::max(longest, s.queries);
    const int64_t blocks = block_count(longest, kQueryBlock) * (shape.n / shape.g);
    const int64_t heads = static_cast<int64_t>(shape.sequences.size()) * shape.g;
    return std::max<int64_t>(1, std::min(block_count(kEnoughTasks, heads), blocks / kBlocksOfPart));
  }

  A* sums_of(int64_t tile, int64_t part) const {
    return sums.data() + (tile * parts + part) * (d + dv) * kKeyBlock;
  }
};

template <typename T>
struct BackwardScratch {
  using A = lanes::accumulation_t<T>;
  AlignedBuffer<T> queries, queries_transposed;  // [kQueryBlock, d], [d, kQueryBlock] as A
  AlignedBuffer<T> grads, grads_transposed;      // the same of dO, with dv
  AlignedBuffer<A> scores, grad_probs;           // [kQueryBlock, kKeyBlock]
  AlignedBuffer<T> probs;                        // as B
  AlignedBuffer<T> grad_scores;                  // as A
  AlignedBuffer<T> grad_scores_packed;           // as B; unused where A and B look alike
  AlignedBuffer<A> grad_queries;                 // [kQueryBlock, d]
  A projection[kQueryBlock];                     // D
  uint32_t words[2][kKeyBlock + 128];

  BackwardScratch(int64_t d, int64_t dv)
      : queries(kQueryBlock * d),
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

template <typename T>
void pack_tiles(const BackwardCall<T>& call, const AttentionTask& task) {
  const AttentionSequence& sequence = call.shape.sequences[task.sequence];
  const int64_t first = task.block * kKeyBlock;
  const int64_t count = std::min(kKeyBlock, sequence.keys - first);
  const int64_t tile = call.blocks.tile(task.sequence, task.head, task.block);
  const int64_t d = call.d, dv = call.dv;
  const auto& [q, k, v, sink] = call.in;
  const int64_t token = sequence.first_key + first;
  const T* key = k.at(token, sequence.batch, task.head);
  pack_transposed(key, k.token, count, call.shape.d,
                  call.keys_transposed.data() + tile * d * kKeyBlock, kKeyBlock, d);
  pack_rows(key, k.token, count, call.shape.d, call.keys.data() + tile * d * kKeyBlock, kKeyBlock,
            d);
  pack_transposed(v.at(token, sequence.batch, task.head), v.token, count, call.shape.dv,
                  call.values_transposed.data() + tile * dv * kKeyBlock, kKeyBlock, dv);
}

// A block's row of queries against a block's keys.
template <typename A>
struct RowOfScores {
  const A *scores, *grad_probs;
  A lse, projection;
  int64_t first, last;    // visible columns
  const uint32_t* words;  // of dropout, or null
};

// dS of one vector of a row; `p` becomes the probability that went into the product with V.
template <typename T, typename A>
MEGATRON_INLINE lanes::Vector<T> grad_score(const RowOfScores<A>& row, int64_t i, bool whole,
                                            A scale, const DropoutRows* dropout,
                                            lanes::Vector<T>& p) {
  using V = lanes::Vector<T>;
  p = lanes::exp2(lanes::load<A>(row.scores + i) * scale - row.lse);
  if (!whole) p = inside<T>(i, row.first, row.last) ? p : V{};
  V grad = lanes::load<A>(row.grad_probs + i);
  if (row.words == nullptr) return p * (grad - row.projection);
  const V kept = lanes::broadcast<T>(static_cast<A>(dropout->scale));
  grad = keep(row.words + i, dropout->threshold, grad, kept);
  const V before = p;
  p = keep(row.words + i, dropout->threshold, p, kept);
  return before * (grad - row.projection);
}

// Two rows, since bf16's B holds them together.
template <typename T, typename A>
MEGATRON_INLINE void softmax_backward(const RowOfScores<A>& even, const RowOfScores<A>& odd,
                                      int64_t row, int64_t columns, A scale,
                                      const DropoutRows* dropout, T* probs, T* grad_scores,
                                      T* packed) {
  const auto loop = [&](bool whole) __attribute__((always_inline)) {
    for (int64_t i = 0; i < columns; i += lanes::width<T>) {
      lanes::Vector<T> p0, p1;
      const auto g0 = grad_score<T>(even, i, whole, scale, dropout, p0);
      const auto g1 = grad_score<T>(odd, i, whole, scale, dropout, p1);
      store_pair<T>(probs, kKeyBlock, row, i, p0, p1);
      store_row<T>(grad_scores + row * kKeyBlock + i, g0);
      store_row<T>(grad_scores + (row + 1) * kKeyBlock + i, g1);
      if (packed != grad_scores) store_pair<T>(packed, kKeyBlock, row, i, g0, g1);
    }
  };
  if (std::max(even.first, odd.first) == 0 && std::min(even.last, odd.last) == columns) {
    loop(/*whole=*/true);
  } else {
    loop(/*whole=*/false);
  }
}

// One block of a head's queries: its dQ, and what it adds to dK, dV and the sink's gradient.
template <typename T>
void backward_block(const BackwardCall<T>& call, const AttentionTask& task, int64_t part,
                    BackwardScratch<T>& scratch) {
  using A = lanes::accumulation_t<T>;
  constexpr bool alike = !std::is_same_v<T, c10::BFloat16>;  // A's layout and B's
  const FusedAttentionShape& shape = call.shape;
  const AttentionSequence& sequence = shape.sequences[task.sequence];
  const int64_t first_query = task.block * kQueryBlock;
  const int64_t rows = std::min(kQueryBlock, sequence.queries - first_query);
  const int64_t padded_rows = round_up(rows, kRowStep);
  const int64_t token = sequence.first_query + first_query, batch = sequence.batch;
  const int64_t d = call.d, dv = call.dv, group = task.head / (shape.n / shape.g);
  const auto& [q, k, v, sink] = call.in;
  const A scale = static_cast<A>(shape.scale * kLog2E);
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
    const int64_t tile = call.blocks.tile(task.sequence, group, block);
    T* probs = scratch.probs.data();
    T* grad_scores = scratch.grad_scores.data();
    T* packed = alike ? grad_scores : scratch.grad_scores_packed.data();
    block_gemm<T>(padded_rows, columns, d, scratch.queries.data(), d,
                  call.keys_transposed.data() + tile * d * kKeyBlock, kKeyBlock,
                  scratch.scores.data(), kKeyBlock, /*accumulate=*/false);
    block_gemm<T>(padded_rows, columns, dv, scratch.grads.data(), dv,
                  call.values_transposed.data() + tile * dv * kKeyBlock, kKeyBlock,
                  scratch.grad_probs.data(), kKeyBlock, /*accumulate=*/false);
    const auto row_of = [&](int64_t i) {
      if (i >= rows) return RowOfScores<A>{scratch.scores.data(), scratch.grad_probs.data()};
      const KeyRange visible = visible_keys(shape, sequence, first_query + i);
      RowOfScores<A> row{.scores = scratch.scores.data() + i * kKeyBlock,
                         .grad_probs = scratch.grad_probs.data() + i * kKeyBlock,
                         .lse = lse[i],
                         .projection = scratch.projection[i],
                         .first = std::clamp<int64_t>(visible.first - key, 0, columns),
                         .last = std::clamp<int64_t>(visible.last - key, 0, columns)};
      if (shape.dropout != nullptr) {
        row.words = draw_columns(row_key(*shape.dropout, line + i), sequence.first_key + key,
                                 columns, scratch.words[i % 2]);
      }
      return row;
    };
    for (int64_t i = 0; i < padded_rows; i += 2) {
      softmax_backward<T, A>(row_of(i), row_of(i + 1), i, columns, scale, shape.dropout, probs,
                             grad_scores, packed);
    }
    A* grad_keys = call.sums_of(tile, part);
    A* grad_values = grad_keys + d * kKeyBlock;
    block_gemm<T>(dv, columns, padded_rows, scratch.grads_transposed.data(), padded_rows, probs,
                  kKeyBlock, grad_values, kKeyBlock, /*accumulate=*/true);
    block_gemm<T>(d, columns, padded_rows, scratch.queries_transposed.data(), padded_rows, packed,
                  kKeyBlock, grad_keys, kKeyBlock, /*accumulate=*/true);
    block_gemm<T>(padded_rows, d, columns, grad_scores, kKeyBlock,
                  call.keys.data() + tile * d * kKeyBlock, d, scratch.grad_queries.data(), d,
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

// Adds the parts of one transposed tile and writes it as rows: to [count, width] from [padded,
// kKeyBlock].
template <typename T, typename A>
void write_rows(const A* sums, int64_t part_stride, int64_t parts, A scale, int64_t count,
                int64_t width, T* to, int64_t stride) {
  const auto sum = [&](int64_t at) {
    auto total = lanes::load<A>(sums + at);
    for (int64_t part = 1; part < parts; ++part) {
      total += lanes::load<A>(sums + part * part_stride + at);
    }
    return total * scale;
  };
  constexpr int step = lanes::width<A>;
  for (int64_t c = 0; c < width; c += step) {
    const int64_t filled = std::min<int64_t>(step, width - c);
    for (int64_t r = 0; r < count; r += step) {
      const int64_t present = std::min<int64_t>(step, count - r);
      if constexpr (std::is_same_v<A, float>) {
        lanes::Words tile[16];
        for (int i = 0; i < 16; ++i) {
          tile[i] = std::bit_cast<lanes::Words>(sum((c + i) * kKeyBlock + r));
        }
        transpose_tile(tile);
        for (int64_t i = 0; i < present; ++i) {
          lanes::store<T>(to + (r + i) * stride + c, std::bit_cast<lanes::Floats>(tile[i]), filled);
        }
      } else {
        for (int64_t i = 0; i < filled; ++i) {
          const auto values = sum((c + i) * kKeyBlock + r);
          for (int64_t j = 0; j < present; ++j) to[(r + j) * stride + c + i] = values[j];
        }
      }
    }
  }
}

template <typename T>
void write_tiles(const BackwardCall<T>& call, const AttentionTask& task) {
  using A = lanes::accumulation_t<T>;
  const FusedAttentionShape& shape = call.shape;
  const AttentionSequence& sequence = shape.sequences[task.sequence];
  const int64_t first = task.block * kKeyBlock;
  const int64_t count = std::min(kKeyBlock, sequence.keys - first);
  const A* sums = call.sums_of(call.blocks.tile(task.sequence, task.head, task.block), 0);
  const int64_t part_stride = (call.d + call.dv) * kKeyBlock;
  const auto& [gq, gk, gv, sink] = call.gradients;
  const int64_t token = sequence.first_key + first;
  write_rows<T, A>(sums, part_stride, call.parts, static_cast<A>(shape.scale), count, shape.d,
                   gk.at(token, sequence.batch, task.head), gk.token);
  write_rows<T, A>(sums + call.d * kKeyBlock, part_stride, call.parts, A(1), count, shape.dv,
                   gv.at(token, sequence.batch, task.head), gv.token);
}

// The parts of all key-value heads. Blocks of queries are numbered head by head.
std::vector<Part> make_parts(const FusedAttentionShape& shape, int64_t parts) {
  std::vector<Part> list;
  for (int64_t s = 0; s < static_cast<int64_t>(shape.sequences.size()); ++s) {
    const int64_t blocks =
        block_count(shape.sequences[s].queries, kQueryBlock) * (shape.n / shape.g);
    for (int64_t g = 0; g < shape.g; ++g) {
      for (int64_t part = 0; part < parts; ++part) {
        list.push_back({s, g, blocks * part / parts, blocks * (part + 1) / parts});
      }
    }
  }
  return list;
}

template <typename T>
void sum_sink_gradients(const BackwardCall<T>& call) {
  using A = lanes::accumulation_t<T>;
  const FusedAttentionShape& shape = call.shape;
  for (int64_t head = 0; head < shape.n; ++head) {
    A sum = 0;
    for (const AttentionSequence& s : shape.sequences) {
      const A* line = call.sink_sums.data() + (s.batch * shape.n + head) * shape.sq;
      for (int64_t i = 0; i < s.queries; i += kQueryBlock) sum += line[s.first_query + i];
    }
    call.gradients.sink[head] = sum;
  }
}

}  // namespace

template <typename T>
void fused_attention_backward(const FusedAttentionShape& shape, const AttentionInputs<T>& in,
                              HeadView<const T> out, HeadView<const T> grad_out,
                              const lanes::accumulation_t<T>* lse,
                              const AttentionGradients<T>& gradients) {
  const BackwardCall<T> call(shape, in, out, grad_out, lse, gradients);
  const std::vector<AttentionTask> keys = key_tasks(shape);
  parallel_for(0, keys.size(), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) pack_tiles(call, keys[i]);
  });
  const std::vector<Part> parts = make_parts(shape, call.parts);
  for_each_task<BackwardScratch<T>>(
      parts.size(), call.d, call.dv, [&](int64_t index, BackwardScratch<T>& scratch) {
        const Part& part = parts[index];
        const int64_t number = index % call.parts;
        const int64_t tiles = call.blocks.in_sequence(part.sequence);
        for (int64_t i = 0; i < tiles; ++i) {
          std::fill_n(call.sums_of(call.blocks.tile(part.sequence, part.group, i), number),
                      (call.d + call.dv) * kKeyBlock, 0);
        }
        const int64_t blocks = block_count(shape.sequences[part.sequence].queries, kQueryBlock);
        const int64_t heads = shape.n / shape.g;
        for (int64_t i = part.first; i < part.last; ++i) {
          backward_block(call, {part.sequence, part.group * heads + i / blocks, i % blocks}, number,
                         scratch);
        }
        if (call.parts > 1) return;
        for (int64_t i = 0; i < tiles; ++i) write_tiles(call, {part.sequence, part.group, i});
      });
  if (call.parts > 1) {
    parallel_for(0, keys.size(), 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) write_tiles(call, keys[i]);
    });
  }
  if (gradients.sink != nullptr) sum_sink_gradients(call);
}

#define MEGATRON_INSTANTIATE(T)                                                                    \
  template void fused_attention_backward(                                                          \
      const FusedAttentionShape&, const AttentionInputs<T>&, HeadView<const T>, HeadView<const T>, \
      const lanes::accumulation_t<T>*, const AttentionGradients<T>&);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
