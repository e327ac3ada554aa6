#include "megatron/data_parallel/finite_gradients.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

bool is_finite(const at::Tensor& tensor) {
  return at::isfinite(tensor).all().item<bool>();
}

}  // namespace

void check_finite_gradients(const BucketLayout& layout, const at::Tensor& gradients,
                            const ProcessGroup& group) {
  const at::NoGradGuard no_grad;
  // Elements between slots may be uninitialised, so the slots decide.
  if (is_finite(gradients)) return;
  for (const auto& [parameter, start] : layout.slots) {
    check(is_finite(gradients.narrow(0, start, parameter->data.numel())),
          "Expected finite gradients before their reduction, but got NaN or infinity in that of {} "
          "on rank {}; without --check-for-nan-in-grad the optimizer skips such steps",
          parameter->name, group.global_rank());
  }
}

}  // namespace megatron
