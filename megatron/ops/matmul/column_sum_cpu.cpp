// Column sums: CPU kernels.
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/matmul/column_sum_kernels.h"

namespace megatron::kernels {

template <KernelLevel level, typename T, typename A>
void partial_column_sums(const T* x, int64_t columns, const RowBlocks& blocks, A* partials) {
  parallel_for(0, blocks.count, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      A* sums = partials + block * columns;
      const int64_t begin = block * blocks.rows_per_block;
      const int64_t end = std::min(blocks.rows, begin + blocks.rows_per_block);
      std::fill(sums, sums + columns, A(0));
      for (int64_t row = begin; row < end; ++row) {
        const T* from = x + row * columns;
        lanes::for_each_vector<T>(columns, [&](int64_t i, auto count) {
          lanes::store<A>(sums + i,
                          lanes::load<A>(sums + i, count) + lanes::load<T>(from + i, count), count);
        });
      }
    }
  });
}

template <KernelLevel level, typename A>
void sum_partials(const A* partials, int64_t count, int64_t columns, A* out) {
  parallel_for(0, columns, 4096, [&](int64_t first, int64_t last) {
    std::fill(out + first, out + last, A(0));
    for (int64_t block = 0; block < count; ++block) {
      const A* from = partials + block * columns;
      for (int64_t i = first; i < last; ++i) out[i] += from[i];
    }
  });
}

template void partial_column_sums<kKernelLevel>(const float*, int64_t, const RowBlocks&, float*);
template void partial_column_sums<kKernelLevel>(const double*, int64_t, const RowBlocks&, double*);
template void partial_column_sums<kKernelLevel>(const c10::BFloat16*, int64_t, const RowBlocks&,
                                                float*);
template void partial_column_sums<kKernelLevel>(const c10::Half*, int64_t, const RowBlocks&,
                                                float*);
template void sum_partials<kKernelLevel>(const float*, int64_t, int64_t, float*);
template void sum_partials<kKernelLevel>(const double*, int64_t, int64_t, double*);

}  // namespace megatron::kernels
