// Rotary position embedding: checks, autograd, dispatch, and the unfused version.
#include "megatron/ops/attention/rope.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/attention/rope_kernels.h"
#include "megatron/ops/core/dispatch.h"

namespace megatron {

namespace {

at::Tensor rotate_on_cpu(const at::Tensor& t, const at::Tensor& cos, const at::Tensor& sin,
                         bool interleaved, bool backward) {
  const at::Tensor in = t.size(3) <= 1 || t.stride(3) == 1 ? t : t.contiguous();
  at::Tensor out = at::empty(t.sizes(), t.options());
  const kernels::RotaryShape shape{.s = t.size(0),
                                   .b = t.size(1),
                                   .n = t.size(2),
                                   .d = t.size(3),
                                   .stride_s = in.stride(0),
                                   .stride_b = in.stride(1),
                                   .stride_n = in.stride(2),
                                   .rotary = cos.size(-1),
                                   .table_per_sample = cos.dim() == 3,
                                   .interleaved = interleaved,
                                   .backward = backward};
  dispatch_dtype_or_half(t.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_kernel_level([&](auto level) {
      kernels::rotate<level, T>(shape, in.const_data_ptr<T>(), cos.const_data_ptr<T>(),
                                sin.const_data_ptr<T>(), out.mutable_data_ptr<T>());
    });
  });
  return out;
}

class RotaryFunction : public torch::autograd::Function<RotaryFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& t,
                            const at::Tensor& cos, const at::Tensor& sin, bool interleaved) {
    context->save_for_backward({cos, sin});
    context->saved_data["interleaved"] = interleaved;
    return rotate_on_cpu(t, cos, sin, interleaved, /*backward=*/false);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}, {}};
    const auto saved = context->get_saved_variables();
    return {rotate_on_cpu(gradients[0], saved[0], saved[1],
                          context->saved_data["interleaved"].toBool(), /*backward=*/true),
            {},
            {},
            {}};
  }
};

}  // namespace

namespace unfused {

at::Tensor apply_rotary(const at::Tensor& t, const at::Tensor& cos, const at::Tensor& sin,
                        bool interleaved) {
  const int64_t rotary = cos.size(-1);
  const std::array<int64_t, 4> shape = {cos.size(0), cos.dim() == 3 ? cos.size(1) : 1, 1, rotary};
  const at::Tensor cosine = cos.detach().to(t.scalar_type()).reshape(shape);
  const at::Tensor sine = sin.detach().to(t.scalar_type()).reshape(shape);
  const at::Tensor rotating = t.narrow(3, 0, rotary);
  at::Tensor rotated;
  if (interleaved) {
    const at::Tensor pairs = rotating.reshape({t.size(0), t.size(1), t.size(2), rotary / 2, 2});
    rotated = at::stack({-pairs.select(4, 1), pairs.select(4, 0)}, 4).reshape(rotating.sizes());
  } else {
    const auto halves = rotating.chunk(2, 3);
    rotated = rotary == 0 ? rotating : at::cat({-halves[1], halves[0]}, 3);
  }
  return at::cat({rotating * cosine + rotated * sine, t.narrow(3, rotary, t.size(3) - rotary)}, 3);
}

}  // namespace unfused

at::Tensor apply_rotary(const at::Tensor& t, const at::Tensor& cos, const at::Tensor& sin,
                        bool interleaved) {
  constexpr std::string_view operation = "apply_rotary";
  check_floating(t, operation, "t");
  check(t.dim() == 4, "{}: Expected t of shape [s, b, n, d], but got [{}]", operation,
        fmt::join(t.sizes(), ", "));
  check_floating(cos, operation, "cos");
  check_floating(sin, operation, "sin");
  check(
      (cos.dim() == 2 || (cos.dim() == 3 && cos.size(1) == t.size(1))) && cos.size(0) == t.size(0),
      "{0}: Expected cos of shape [{1}, rot_dim] or [{1}, {2}, rot_dim], but got [{3}]", operation,
      t.size(0), t.size(1), fmt::join(cos.sizes(), ", "));
  check_shape(sin, cos.sizes(), operation, "sin");
  check_alike(cos, t, operation, "cos", /*dtype=*/false);
  check_alike(sin, t, operation, "sin", /*dtype=*/false);
  check(cos.size(-1) % 2 == 0 && cos.size(-1) <= t.size(3),
        "{}: Expected an even rot_dim of at most {}, but got {}", operation, t.size(3),
        cos.size(-1));
  if (!use_cpu_kernel_or_half(t)) return unfused::apply_rotary(t, cos, sin, interleaved);
  return RotaryFunction::apply(t, cos.detach().to(t.scalar_type()).contiguous(),
                               sin.detach().to(t.scalar_type()).contiguous(), interleaved);
}

}  // namespace megatron
