// CPU kernels of fused attention, backward. The probabilities are recomputed from the queries, the
// keys and the saved log-sum-exp. With dP = dO V^T and D = rowsum(dO * O):
//   dS = P * (dP - D),  dQ = scale * dS K,  dK = scale * dS^T Q,  dV = P^T dO,
// and the sink's gradient is -sum over rows of P_sink * D. With dropout, the mask applies to P in
// dV and to dP. dK and dV are summed transposed, so that blocks of scores need no transpose.
//
// A task is one key-value head of a sequence. If there are too few of these, the queries of each
// are split, and the sums of the splits are added in order. The number of splits depends only on
// the shape, so results do not depend on the number of threads.
#include "megatron/ops/attention/fused_attention_backward.h"

namespace megatron::kernels {

namespace {

// Blocks first .. last - 1 of the queries of one key-value head, numbered head by head.
struct QuerySplit {
  int64_t sequence, group;
  int64_t first, last;
};

// Adds the splits' sums of one transposed tile [padded, kKeyBlock] and writes it as rows,
// [count, width].
template <typename T, typename A>
void write_rows(const A* sums, int64_t split_stride, int64_t splits, A scale, int64_t count,
                int64_t width, T* to, int64_t stride) {
  const auto sum = [&](int64_t at) {
    auto total = lanes::load<A>(sums + at);
    for (int64_t split = 1; split < splits; ++split) {
      total += lanes::load<A>(sums + split * split_stride + at);
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

// Writes one tile of dK and dV from the consecutive sums of the splits.
template <typename T, typename A>
void write_tile(const BackwardCall<T>& call, const AttentionTask& task, const A* sums) {
  const FusedAttentionShape& shape = call.shape;
  const AttentionSequence& sequence = shape.sequences[task.sequence];
  const int64_t first = task.block * kKeyBlock;
  const int64_t count = std::min(kKeyBlock, sequence.keys - first);
  const int64_t stride = (call.d + call.dv) * kKeyBlock;
  const auto& [gq, gk, gv, sink] = call.gradients;
  const int64_t token = sequence.first_key + first;
  write_rows<T, A>(sums, stride, call.splits, static_cast<A>(shape.scale), count, shape.d,
                   gk.at(token, sequence.batch, task.head), gk.token);
  write_rows<T, A>(sums + call.d * kKeyBlock, stride, call.splits, A(1), count, shape.dv,
                   gv.at(token, sequence.batch, task.head), gv.token);
}

std::vector<QuerySplit> query_splits(const FusedAttentionShape& shape, int64_t splits) {
  std::vector<QuerySplit> list;
  for (int64_t s = 0; s < static_cast<int64_t>(shape.sequences.size()); ++s) {
    const int64_t blocks = ceil_div(shape.sequences[s].queries, kQueryBlock) * (shape.n / shape.g);
    for (int64_t g = 0; g < shape.g; ++g) {
      for (int64_t i = 0; i < splits; ++i) {
        list.push_back({s, g, blocks * i / splits, blocks * (i + 1) / splits});
      }
    }
  }
  return list;
}

// Packs the keys and values of the split's key-value head for block_gemm.
template <typename T>
void pack_tiles(const BackwardCall<T>& call, const QuerySplit& split, BackwardScratch<T>& scratch) {
  const AttentionSequence& sequence = call.shape.sequences[split.sequence];
  const auto& [q, k, v, sink] = call.in;
  const int64_t d = call.d, dv = call.dv;
  for (int64_t tile = 0; tile * kKeyBlock < sequence.keys; ++tile) {
    const int64_t count = std::min(kKeyBlock, sequence.keys - tile * kKeyBlock);
    const int64_t token = sequence.first_key + tile * kKeyBlock;
    const T* key = k.at(token, sequence.batch, split.group);
    pack_transposed(key, k.token, count, call.shape.d,
                    scratch.keys_transposed.data() + tile * d * kKeyBlock, kKeyBlock, d);
    pack_rows(key, k.token, count, call.shape.d, scratch.keys.data() + tile * d * kKeyBlock,
              kKeyBlock, d);
    pack_transposed(v.at(token, sequence.batch, split.group), v.token, count, call.shape.dv,
                    scratch.values_transposed.data() + tile * dv * kKeyBlock, kKeyBlock, dv);
  }
}

// `number` is the split's index within its key-value head.
template <typename T>
void backward_split(const BackwardCall<T>& call, const QuerySplit& split, int64_t number,
                    BackwardScratch<T>& scratch) {
  const FusedAttentionShape& shape = call.shape;
  const int64_t tiles = call.blocks.in_sequence(split.sequence);
  const int64_t size = (call.d + call.dv) * kKeyBlock;
  scratch.sum_stride = call.splits * size;
  scratch.sums =
      call.splits == 1
          ? scratch.local_sums.data()
          : call.split_sums.data() +
                (call.blocks.tile(split.sequence, split.group, 0) * call.splits + number) * size;
  pack_tiles(call, split, scratch);
  for (int64_t i = 0; i < tiles; ++i) {
    std::fill_n(scratch.sums + i * scratch.sum_stride, size, 0);
  }
  const int64_t blocks = ceil_div(shape.sequences[split.sequence].queries, kQueryBlock);
  const int64_t first_head = split.group * (shape.n / shape.g);
  for (int64_t i = split.first; i < split.last; ++i) {
    backward_block(call, {split.sequence, first_head + i / blocks, i % blocks}, scratch);
  }
  if (call.splits > 1) return;
  for (int64_t i = 0; i < tiles; ++i) {
    write_tile(call, {split.sequence, split.group, i}, scratch.sums + i * size);
  }
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

template <KernelLevel level, typename T>
void fused_attention_backward(const FusedAttentionShape& shape, const AttentionInputs<T>& in,
                              HeadView<const T> out, HeadView<const T> grad_out,
                              const lanes::accumulation_t<T>* lse,
                              const AttentionGradients<T>& gradients) {
  const BackwardCall<T> call(shape, in, out, grad_out, lse, gradients);
  const std::vector<QuerySplit> splits = query_splits(shape, call.splits);
  for_each_task<BackwardScratch<T>>(splits.size(), call,
                                    [&](int64_t i, BackwardScratch<T>& scratch) {
                                      backward_split(call, splits[i], i % call.splits, scratch);
                                    });
  if (call.splits > 1) {
    const std::vector<AttentionTask> keys = key_tasks(shape);
    const int64_t size = call.splits * (call.d + call.dv) * kKeyBlock;
    parallel_for(0, keys.size(), 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const auto& [sequence, group, block] = keys[i];
        write_tile(call, keys[i],
                   call.split_sums.data() + call.blocks.tile(sequence, group, block) * size);
      }
    });
  }
  if (gradients.sink != nullptr) sum_sink_gradients(call);
}

#define MEGATRON_INSTANTIATE(T)                                                                    \
  template void fused_attention_backward<kKernelLevel>(                                            \
      const FusedAttentionShape&, const AttentionInputs<T>&, HeadView<const T>, HeadView<const T>, \
      const lanes::accumulation_t<T>*, const AttentionGradients<T>&);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
