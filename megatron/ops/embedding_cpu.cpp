// Embedding lookup and its backward: CPU kernels.
#include <algorithm>

#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/embedding_kernels.h"

namespace megatron::kernels {

template <KernelLevel level, typename T>
void embedding_forward(const EmbeddingShape& shape, const T* weight, const int64_t* ids, T* out) {
  parallel_for(0, shape.s * shape.b, row_grain(shape.h), [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t s = index / shape.b, b = index % shape.b;
      const int64_t row = ids[b * shape.s + s] - shape.vocab_start;
      T* to = out + index * shape.h;
      if (row >= 0 && row < shape.vocab_rows) {
        std::copy(weight + row * shape.h, weight + (row + 1) * shape.h, to);
      } else {
        std::fill(to, to + shape.h, T(0));
      }
    }
  });
}

template <KernelLevel level, typename T, typename G>
void embedding_backward(const EmbeddingShape& shape, const T* grad, const int64_t* ids,
                        G* gradient) {
  // Threads divide the columns, so each row accumulates in the order of the ids.
  parallel_for(0, shape.h, 64, [&](int64_t first, int64_t last) {
    for (int64_t b = 0; b < shape.b; ++b) {
      for (int64_t s = 0; s < shape.s; ++s) {
        const int64_t row = ids[b * shape.s + s] - shape.vocab_start;
        if (row < 0 || row >= shape.vocab_rows) continue;
        const T* from = grad + (s * shape.b + b) * shape.h + first;
        G* to = gradient + row * shape.h + first;
        lanes::for_each_vector<T>(last - first, [&](int64_t i, auto count) {
          const auto sum = lanes::load<G>(to + i, count) + lanes::load<T>(from + i, count);
          lanes::store<G>(to + i, sum, count);
        });
      }
    }
  });
}

template void embedding_forward<kKernelLevel>(const EmbeddingShape&, const float*, const int64_t*,
                                              float*);
template void embedding_forward<kKernelLevel>(const EmbeddingShape&, const double*, const int64_t*,
                                              double*);
template void embedding_forward<kKernelLevel>(const EmbeddingShape&, const c10::BFloat16*,
                                              const int64_t*, c10::BFloat16*);
template void embedding_backward<kKernelLevel>(const EmbeddingShape&, const float*, const int64_t*,
                                               float*);
template void embedding_backward<kKernelLevel>(const EmbeddingShape&, const double*, const int64_t*,
                                               double*);
template void embedding_backward<kKernelLevel>(const EmbeddingShape&, const c10::BFloat16*,
                                               const int64_t*, float*);
template void embedding_backward<kKernelLevel>(const EmbeddingShape&, const c10::BFloat16*,
                                               const int64_t*, c10::BFloat16*);
template void embedding_forward<kKernelLevel>(const EmbeddingShape&, const c10::Half*,
                                              const int64_t*, c10::Half*);
template void embedding_backward<kKernelLevel>(const EmbeddingShape&, const c10::Half*,
                                               const int64_t*, float*);
template void embedding_backward<kKernelLevel>(const EmbeddingShape&, const c10::Half*,
                                               const int64_t*, c10::Half*);

}  // namespace megatron::kernels
