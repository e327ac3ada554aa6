// Accumulation of bf16 products into fp32 buffers: CPU kernel.
#include "megatron/ops/linear_kernels.h"
#include "megatron/ops/parallel_for.h"
#include "megatron/ops/vector_math.h"

namespace megatron::kernels {

void add_bf16(int64_t count, const c10::BFloat16* values, float* sum) {
  parallel_for(0, count, 32768, [&](int64_t first, int64_t last) {
    lanes::for_each_vector<float>(last - first, [&](int64_t i, auto size) {
      float* to = sum + first + i;
      lanes::store<float>(
          to, lanes::load<float>(to, size) + lanes::load<c10::BFloat16>(values + first + i, size),
          size);
    });
  });
}

}  // namespace megatron::kernels
