#include "megatron/ops/matmul/matmul_accumulate.h"

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/bf16_matmul.h"
#include "megatron/ops/matmul/packing_kernels.h"

namespace megatron {

void matmul_accumulate(at::Tensor& sum, const at::Tensor& left, const at::Tensor& right) {
  constexpr std::string_view operation = "matmul_accumulate";
  check_floating(right, operation, "right");
  check_alike(left, right, operation, "left");
  check(left.dim() == 2 && right.dim() == 2 && left.size(1) == right.size(0),
        "{}: Expected left [m, k] and right [k, n], but got [{}] and [{}]", operation,
        fmt::join(left.sizes(), ", "), fmt::join(right.sizes(), ", "));
  check_shape(sum, {left.size(0), right.size(1)}, operation, "sum");
  const at::Tensor a = left.detach(), b = right.detach();
  at::Tensor target = sum.detach();
  const bool bf16_into_fp32 = target.is_cpu() && target.is_contiguous() &&
                              target.scalar_type() == at::kFloat &&
                              b.scalar_type() == at::kBFloat16;
  if (widens_for_products(b)) {
    const at::Tensor wide_a = a.to(at::kFloat), wide_b = b.to(at::kFloat);
    if (target.scalar_type() == at::kFloat) {
      target.addmm_(wide_a, wide_b);
    } else {
      target.add_(at::mm(wide_a, wide_b));
    }
  } else if (target.scalar_type() == b.scalar_type()) {
    target.addmm_(a, b);
  } else if (bf16_into_fp32 && can_use_bf16_matmul(a, b)) {
    bf16_matmul(target, a, b, /*bias=*/{}, Bf16MatmulEpilogue::accumulate_fp32);
  } else if (bf16_into_fp32) {
    const at::Tensor rounded = at::mm(a, b).contiguous();
    with_kernel_level([&](auto level) {
      kernels::add_bf16<level>(target.numel(), rounded.const_data_ptr<c10::BFloat16>(),
                               target.mutable_data_ptr<float>());
    });
  } else {
    target.add_(at::mm(a, b));
  }
}

}  // namespace megatron
