// Dropout as a function of the global element: checks, autograd, dispatch.
#include "megatron/ops/random/dropout.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"
#include "megatron/ops/random/dropout_kernels.h"
#include "megatron/ops/random/dropout_mask.h"
#if defined(MEGATRON_USE_CUDA)
#include "megatron/ops/random/dropout_device.h"
#endif

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The state of an autograd node, from which the mask is drawn.
struct Mask : torch::CustomClassHolder {
  double p = 0;
  DropoutKey key;
  DropoutIndex index;
  int64_t heads = 0;  // 0: hidden states
  int64_t head_offset = 0;

  kernels::DropoutRows rows(int64_t columns) const {
    return {.sample_ordinals = index.sample_ordinals.const_data_ptr<int64_t>(),
            .positions = index.positions.const_data_ptr<int64_t>(),
            .samples = index.sample_ordinals.numel(),
            .position_count = index.positions.numel(),
            .heads = heads,
            .head_offset = head_offset,
            .columns = columns,
            .seed = key.seed,
            .layer = key.layer,
            .site = key.site,
            .threshold = dropout_threshold(p),
            .scale = 1.0 / (1.0 - p)};
  }

  // The factors with the dtype and device of x, for devices without a kernel.
  at::Tensor factors(const at::Tensor& x) const {
    const at::Tensor drawn = heads == 0
                                 ? dropout_factors(x.sizes(), p, key, index)
                                 : attention_dropout_factors(x.sizes(), p, key, index, head_offset);
    return drawn.to(x.options());
  }

  // dropout(x) without autograd.
  at::Tensor apply(const at::Tensor& x) const {
    if (p == 0) return x;
    const at::Tensor input = x.contiguous();
    if (use_cpu_kernel_or_half(input)) {
      at::Tensor y = at::empty(input.sizes(), input.options());
      dispatch_dtype_or_half(input.scalar_type(), [&](auto type) {
        using T = decltype(type);
        with_kernel_level([&](auto level) {
          kernels::dropout_rows<level, T>(rows(input.size(-1)), input.const_data_ptr<T>(),
                                          y.mutable_data_ptr<T>());
        });
      });
      return y;
    }
#if defined(MEGATRON_USE_CUDA)
    if (input.is_cuda()) return dropout_on_device(rows(input.size(-1)), input, {}, {});
#endif
    const at::Tensor kept = factors(input);
    return at::where(kept == 0, at::zeros({}, kept.options()), input * kept);
  }
};

class DropoutFunction : public torch::autograd::Function<DropoutFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const c10::intrusive_ptr<Mask>& mask) {
    context->saved_data["mask"] = c10::IValue::make_capsule(mask);
    return mask->apply(x);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}};
    const auto capsule = context->saved_data["mask"].toCapsule();
    return {static_cast<const Mask&>(*capsule).apply(gradients[0]), {}};
  }
};

class BiasDropoutAddFunction : public torch::autograd::Function<BiasDropoutAddFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const std::optional<at::Tensor>& maybe_bias, const at::Tensor& residual,
                            const c10::intrusive_ptr<Mask>& mask) {
    context->saved_data["mask"] = c10::IValue::make_capsule(mask);
    const at::Tensor bias = maybe_bias.value_or(at::Tensor());
    context->saved_data["has_bias"] = bias.defined();
    const at::Tensor input = x.contiguous();
    const at::Tensor rest = residual.contiguous();
    const at::Tensor flat_bias = bias.defined() ? bias.contiguous() : bias;
    if (use_cpu_kernel_or_half(input)) {
      at::Tensor y = at::empty(input.sizes(), input.options());
      dispatch_dtype_or_half(input.scalar_type(), [&](auto type) {
        using T = decltype(type);
        with_kernel_level([&](auto level) {
          kernels::bias_dropout_add_forward<level, T>(
              mask->rows(input.size(-1)), input.const_data_ptr<T>(), data_or_null<T>(flat_bias),
              rest.const_data_ptr<T>(), y.mutable_data_ptr<T>());
        });
      });
      return y;
    }
#if defined(MEGATRON_USE_CUDA)
    if (input.is_cuda()) {
      return dropout_on_device(mask->rows(input.size(-1)), input, flat_bias, rest);
    }
#endif
    return rest + mask->apply(bias.defined() ? input + flat_bias : input);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}, {}};
    const auto capsule = context->saved_data["mask"].toCapsule();
    const auto& mask = static_cast<const Mask&>(*capsule);
    const at::Tensor grad_y = gradients[0].contiguous();
    const bool needs_bias =
        context->saved_data["has_bias"].toBool() && context->needs_input_grad(1);
    if (mask.p == 0 || !use_cpu_kernel_or_half(grad_y)) {
      const at::Tensor grad_x = mask.apply(grad_y);
      return {grad_x, needs_bias ? column_sum(grad_x) : at::Tensor(), gradients[0], {}};
    }
    const int64_t columns = grad_y.size(-1);
    const RowBlocks blocks = row_blocks(grad_y.size(0) * grad_y.size(1));
    at::Tensor partials;
    if (needs_bias) partials = make_partial_sums(blocks, columns, grad_y);
    at::Tensor grad_x = at::empty(grad_y.sizes(), grad_y.options());
    dispatch_dtype_or_half(grad_y.scalar_type(), [&](auto type) {
      using T = decltype(type);
      using A = lanes::accumulation_t<T>;
      with_kernel_level([&](auto level) {
        kernels::bias_dropout_add_backward<level, T, A>(
            mask.rows(columns), grad_y.const_data_ptr<T>(), grad_x.mutable_data_ptr<T>(),
            data_or_null<A>(partials), blocks);
      });
    });
    at::Tensor grad_bias;
    if (needs_bias) grad_bias = reduce_partial_sums(partials, grad_y.scalar_type());
    return {grad_x, grad_bias, gradients[0], {}};
  }
};

void check_probability(double p, std::string_view operation) {
  check(p >= 0 && p < 1, "{}: Expected a dropout probability of at least 0 and below 1, but got {}",
        operation, p);
}

void check_hidden(const at::Tensor& x, double p, const DropoutIndex& index,
                  std::string_view operation) {
  check_probability(p, operation);
  check_floating(x, operation, "x");
  check(x.dim() == 3, "{}: Expected x of shape [s_p, b, h], but got [{}]", operation,
        fmt::join(x.sizes(), ", "));
  if (p == 0) return;
  check_ordinals(index.sample_ordinals, x.size(1), operation, "sample_ordinals");
  check_ordinals(index.positions, x.size(0), operation, "positions");
}

c10::intrusive_ptr<Mask> make_mask(double p, const DropoutKey& key, const DropoutIndex& index,
                                   int64_t heads, int64_t head_offset, const at::Tensor& x) {
  auto mask = c10::make_intrusive<Mask>();
  mask->p = p;
  mask->key = key;
  mask->index = index;
  mask->heads = heads;
  mask->head_offset = head_offset;
  if (p == 0) {  // the kernels read only the lengths
    mask->index = {at::empty({x.size(1)}, at::kLong), at::empty({x.size(0)}, at::kLong)};
  }
  return mask;
}

}  // namespace

at::Tensor dropout_factors(at::IntArrayRef shape, double p, const DropoutKey& key,
                           const DropoutIndex& index) {
  at::Tensor factors = at::empty(shape, at::kDouble);
  auto out = factors.accessor<double, 3>();
  const auto ordinals = index.sample_ordinals.accessor<int64_t, 1>();
  const auto positions = index.positions.accessor<int64_t, 1>();
  const uint32_t threshold = dropout_threshold(p);
  for (int64_t s = 0; s < shape[0]; ++s) {
    for (int64_t b = 0; b < shape[1]; ++b) {
      const uint64_t stream = dropout_stream(key.seed, key.layer, key.site, ordinals[b]);
      for (int64_t c = 0; c < shape[2]; ++c) {
        const uint32_t word =
            dropout_word(stream, 0, static_cast<uint32_t>(positions[s]), static_cast<uint32_t>(c));
        out[s][b][c] = word >= threshold ? 1.0 / (1.0 - p) : 0.0;
      }
    }
  }
  return factors;
}

at::Tensor attention_dropout_factors(at::IntArrayRef shape, double p, const DropoutKey& key,
                                     const DropoutIndex& queries, int64_t head_offset) {
  at::Tensor factors = at::empty(shape, at::kDouble);
  auto out = factors.accessor<double, 4>();
  const auto ordinals = queries.sample_ordinals.accessor<int64_t, 1>();
  const auto positions = queries.positions.accessor<int64_t, 1>();
  const uint32_t threshold = dropout_threshold(p);
  for (int64_t b = 0; b < shape[0]; ++b) {
    const uint64_t stream = dropout_stream(key.seed, key.layer, key.site, ordinals[b]);
    for (int64_t n = 0; n < shape[1]; ++n) {
      for (int64_t q = 0; q < shape[2]; ++q) {
        for (int64_t c = 0; c < shape[3]; ++c) {
          const uint32_t word =
              dropout_word(stream, static_cast<uint32_t>(head_offset + n),
                           static_cast<uint32_t>(positions[q]), static_cast<uint32_t>(c));
          out[b][n][q][c] = word >= threshold ? 1.0 / (1.0 - p) : 0.0;
        }
      }
    }
  }
  return factors;
}

at::Tensor dropout(const at::Tensor& x, double p, const DropoutKey& key,
                   const DropoutIndex& index) {
  check_hidden(x, p, index, "dropout");
  if (p == 0) return x;
  return DropoutFunction::apply(x, make_mask(p, key, index, /*heads=*/0, /*head_offset=*/0, x));
}

at::Tensor bias_dropout_add(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual,
                            double p, const DropoutKey& key, const DropoutIndex& index) {
  check_hidden(x, p, index, "bias_dropout_add");
  check_shape(residual, x.sizes(), "bias_dropout_add", "residual");
  check_alike(residual, x, "bias_dropout_add", "residual");
  if (bias.defined()) {
    check_shape(bias, {x.size(-1)}, "bias_dropout_add", "bias");
    check_alike(bias, x, "bias_dropout_add", "bias");
  }
  return BiasDropoutAddFunction::apply(x, optional_tensor(bias), residual,
                                       make_mask(p, key, index, /*heads=*/0, /*head_offset=*/0, x));
}

at::Tensor attention_dropout(const at::Tensor& probs, double p, const DropoutKey& key,
                             const DropoutIndex& queries, int64_t head_offset) {
  constexpr std::string_view operation = "attention_dropout";
  check_probability(p, operation);
  check_floating(probs, operation, "probs");
  check(probs.dim() == 4, "{}: Expected probs of shape [b, n_p, sq, sk], but got [{}]", operation,
        fmt::join(probs.sizes(), ", "));
  check(head_offset >= 0, "{}: Expected head_offset of at least 0, but got {}", operation,
        head_offset);
  if (p == 0) return probs;
  check_ordinals(queries.sample_ordinals, probs.size(0), operation, "sample_ordinals");
  check_ordinals(queries.positions, probs.size(2), operation, "positions");
  if (probs.numel() == 0) return probs;
  return DropoutFunction::apply(probs,
                                make_mask(p, key, queries, probs.size(1), head_offset, probs));
}

}  // namespace megatron
