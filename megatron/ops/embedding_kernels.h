// The embedding kernels' interface: plain pointers.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

struct EmbeddingShape {
  int64_t b, s, h;
  int64_t vocab_start;
  int64_t vocab_rows;
};

// out [s, b, h] = rows of weight [vocab_rows, h] chosen by ids [b, s]; zero for ids outside the
// shard.
template <KernelLevel level, typename T>
void embedding_forward(const EmbeddingShape& shape, const T* weight, const int64_t* ids, T* out);

// gradient [vocab_rows, h] += rows of grad [s, b, h], in the order of ids.
template <KernelLevel level, typename T, typename G>
void embedding_backward(const EmbeddingShape& shape, const T* grad, const int64_t* ids,
                        G* gradient);

}  // namespace megatron::kernels
