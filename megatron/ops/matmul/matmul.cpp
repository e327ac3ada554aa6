#include "megatron/ops/matmul/matmul.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/bf16_matmul.h"

namespace megatron {

namespace {

// With fewer rows packing costs more than it saves (measured against libtorch's GEMM).
constexpr int64_t kMinRowsToPack = 16;

bool use_bf16_matmul(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
                     const at::Tensor& bias) {
  return left.size(0) >= kMinRowsToPack && out.stride(1) == 1 &&
         (!bias.defined() || bias.is_contiguous()) && can_use_bf16_matmul(left, right);
}

}  // namespace

void matmul_out(const at::Tensor& out, const at::Tensor& left, const at::Tensor& right,
                const at::Tensor& bias) {
  constexpr std::string_view operation = "matmul";
  check_floating(left, operation, "left");
  check_alike(right, left, operation, "right");
  check_alike(out, left, operation, "out");
  check(left.dim() == 2 && right.dim() == 2 && left.size(1) == right.size(0),
        "{}: Expected left [m, k] and right [k, n], but got [{}] and [{}]", operation,
        fmt::join(left.sizes(), ", "), fmt::join(right.sizes(), ", "));
  check_shape(out, {left.size(0), right.size(1)}, operation, "out");
  if (bias.defined()) {
    check_alike(bias, left, operation, "bias");
    check_shape(bias, {right.size(1)}, operation, "bias");
  }
  const at::NoGradGuard no_grad;
  at::Tensor target = out;
  if (use_bf16_matmul(out, left, right, bias)) {
    bf16_matmul(out, left, right, bias, Bf16MatmulEpilogue::store_bf16);
  } else if (widens_for_products(left)) {
    const at::Tensor a = left.to(at::kFloat), b = right.to(at::kFloat);
    target.copy_(bias.defined() ? at::addmm(bias.to(at::kFloat), a, b) : at::mm(a, b));
  } else if (bias.defined()) {
    at::addmm_out(target, bias, left, right);
  } else {
    at::mm_out(target, left, right);
  }
}

at::Tensor matmul(const at::Tensor& left, const at::Tensor& right, const at::Tensor& bias) {
  check(left.dim() == 2 && right.dim() == 2,
        "matmul: Expected matrices, but got tensors of {} and {} dimensions", left.dim(),
        right.dim());
  const at::Tensor out =
      at::empty({left.size(0), right.size(1)}, left.options().requires_grad(false));
  matmul_out(out, left, right, bias);
  return out;
}

}  // namespace megatron
