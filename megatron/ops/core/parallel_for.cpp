// The only file of ops/ that is compiled with OpenMP, whose runtime is libtorch's thread pool.
#include "megatron/ops/core/parallel_for.h"

#include <ATen/Parallel.h>

namespace megatron::detail {

void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  void (*body)(const void*, int64_t, int64_t), const void* context) {
  at::parallel_for(begin, end, grain,
                   [=](int64_t first, int64_t last) { body(context, first, last); });
}

}  // namespace megatron::detail
