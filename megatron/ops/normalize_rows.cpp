// The norm's part of norm_linear: checks, dispatch, and the version of libtorch operators.
#include <ATen/ATen.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"
#include "megatron/ops/norm_kernels.h"
#include "megatron/ops/norm_linear.h"

namespace megatron {

namespace {

// The norm's parameters in the dtype of its computation.
struct WideNorm {
  WideNorm(const at::Tensor& x, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
           const NormLinearOptions& options)
      : weight(norm_weight.to(accumulation_dtype(x.scalar_type())).contiguous()) {
    if (options.zero_centered) weight = weight + 1;
    if (norm_bias.defined()) bias = norm_bias.to(weight.scalar_type()).contiguous();
  }
  at::Tensor weight, bias;
};

void check_norm(const at::Tensor& x, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                const NormLinearOptions& options) {
  constexpr std::string_view operation = "norm_linear";
  check_floating(x, operation, "x");
  check(x.dim() >= 1 && x.size(-1) > 0,
        "{}: Expected x with a last dimension of at least 1, but got [{}]", operation,
        fmt::join(x.sizes(), ", "));
  check_shape(norm_weight, {x.size(-1)}, operation, "norm_weight");
  check_alike(norm_weight, x, operation, "norm_weight", /*dtype=*/false);
  const auto dtype = norm_weight.scalar_type();
  check(x.scalar_type() == dtype || x.scalar_type() == accumulation_dtype(dtype),
        "{}: Expected x of dtype {} or {} for a norm_weight of dtype {}, but got {}", operation,
        dtype_name(dtype), dtype_name(accumulation_dtype(dtype)), dtype_name(dtype),
        dtype_name(x.scalar_type()));
  check(norm_bias.defined() != options.rms, "{}: Expected {}, but got {}", operation,
        options.rms ? "no norm_bias with rms" : "a norm_bias without rms",
        options.rms ? "one" : "none");
  if (!norm_bias.defined()) return;
  check_shape(norm_bias, {x.size(-1)}, operation, "norm_bias");
  check_alike(norm_bias, norm_weight, operation, "norm_bias");
}

// Each row's statistic as a column, to broadcast over x.
at::Tensor as_column(const at::Tensor& statistic, const at::Tensor& x) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = 1;
  return statistic.view(shape);
}

// (x - mean) * rstd
at::Tensor standardized(const at::Tensor& x, const RowStatistics& statistics) {
  at::Tensor wide = x.to(statistics.rstd.scalar_type());
  if (statistics.mean.defined()) wide = wide - as_column(statistics.mean, x);
  return wide * as_column(statistics.rstd, x);
}

at::Tensor scaled(const at::Tensor& standard, const WideNorm& norm) {
  const at::Tensor y = standard * norm.weight;
  return norm.bias.defined() ? y + norm.bias : y;
}

RowStatistics unfused_statistics(const at::Tensor& x, const NormLinearOptions& options) {
  const at::Tensor rows = flatten_rows(x).to(accumulation_dtype(x.scalar_type()));
  RowStatistics statistics;
  at::Tensor centred = rows;
  if (!options.rms) {
    statistics.mean = rows.mean(-1);
    centred = rows - statistics.mean.unsqueeze(1);
  }
  statistics.rstd = at::rsqrt((centred * centred).mean(-1) + options.epsilon);
  return statistics;
}

NormGradients unfused_backward(const at::Tensor& grad_normed, const at::Tensor& x,
                               const at::Tensor& norm_weight, const RowStatistics& statistics,
                               const WideNorm& norm) {
  const at::Tensor gradient = grad_normed.to(norm.weight.scalar_type());
  const at::Tensor standard = standardized(x, statistics), scaled_gradient = gradient * norm.weight;
  at::Tensor grad_x =
      scaled_gradient - standard * (scaled_gradient * standard).mean(-1, /*keepdim=*/true);
  if (statistics.mean.defined()) grad_x = grad_x - scaled_gradient.mean(-1, /*keepdim=*/true);
  NormGradients gradients;
  gradients.x = (grad_x * as_column(statistics.rstd, x)).to(x.scalar_type());
  gradients.weight = flatten_rows(gradient * standard).sum(0).to(norm_weight.scalar_type());
  if (statistics.mean.defined())
    gradients.bias = flatten_rows(gradient).sum(0).to(norm_weight.scalar_type());
  return gradients;
}

// Runs body(T{}, A{}, level) for the dtype of x.
template <typename Body>
void with_norm_types(const at::Tensor& x, const Body& body) {
  dispatch_dtype_or_half(x.scalar_type(), [&](auto type) {
    using A = lanes::accumulation_t<decltype(type)>;
    with_kernel_level([&](auto level) { body(type, A{}, level); });
  });
}

// `again`: grad_normed, of x's dtype, is replaced by the normalised activations.
NormGradients kernel_backward(const at::Tensor& grad_normed, const at::Tensor& x,
                              const at::Tensor& norm_weight, const RowStatistics& statistics,
                              const WideNorm& norm, bool again) {
  const at::Tensor rows = flatten_rows(x), grad_y = flatten_rows(grad_normed);
  const RowBlocks blocks = row_blocks(rows.size(0));
  const at::Tensor weight_partials = make_partial_sums(blocks, rows.size(1), rows);
  at::Tensor bias_partials;
  const bool centred = statistics.mean.defined();
  if (centred) bias_partials = make_partial_sums(blocks, rows.size(1), rows);
  NormGradients gradients;
  gradients.x = at::empty(x.sizes(), x.options().requires_grad(false));
  with_norm_types(x, [&](auto type, auto wide, auto level) {
    using T = decltype(type);
    using A = decltype(wide);
    kernels::norm_backward<level, T, A>(
        centred, grad_y.const_data_ptr<T>(), rows.const_data_ptr<T>(),
        norm.weight.const_data_ptr<A>(), data_or_null<A>(norm.bias),
        data_or_null<A>(statistics.mean), statistics.rstd.const_data_ptr<A>(),
        gradients.x.mutable_data_ptr<T>(), again ? grad_y.mutable_data_ptr<T>() : nullptr,
        weight_partials.mutable_data_ptr<A>(), data_or_null<A>(bias_partials), blocks,
        rows.size(1));
  });
  gradients.weight = reduce_partial_sums(weight_partials, norm_weight.scalar_type());
  if (centred) gradients.bias = reduce_partial_sums(bias_partials, norm_weight.scalar_type());
  return gradients;
}

}  // namespace

namespace unfused {

at::Tensor normalize_rows(const at::Tensor& x, const at::Tensor& norm_weight,
                          const at::Tensor& norm_bias, const NormLinearOptions& options) {
  const at::Tensor wide = x.to(accumulation_dtype(x.scalar_type()));
  const at::Tensor centred = options.rms ? wide : wide - wide.mean(-1, /*keepdim=*/true);
  const at::Tensor variance = (centred * centred).mean(-1, /*keepdim=*/true);
  at::Tensor weight = norm_weight.to(wide.scalar_type());
  if (options.zero_centered) weight = weight + 1;
  const at::Tensor y = centred * at::rsqrt(variance + options.epsilon) * weight;
  return (norm_bias.defined() ? y + norm_bias : y).to(norm_weight.scalar_type());
}

}  // namespace unfused

NormalizedRows normalize_rows(const at::Tensor& x, const at::Tensor& norm_weight,
                              const at::Tensor& norm_bias, const NormLinearOptions& options) {
  check_norm(x, norm_weight, norm_bias, options);
  const at::NoGradGuard no_grad;
  const WideNorm norm(x, norm_weight, norm_bias, options);
  NormalizedRows result;
  if (!use_cpu_kernel_or_half(x)) {
    result.statistics = unfused_statistics(x, options);
    result.normed = scaled(standardized(x, result.statistics), norm).to(norm_weight.scalar_type());
    return result;
  }
  const at::Tensor rows = flatten_rows(x);
  const at::TensorOptions wide_options = norm.weight.options().requires_grad(false);
  result.statistics.rstd = at::empty({rows.size(0)}, wide_options);
  if (!options.rms) result.statistics.mean = at::empty({rows.size(0)}, wide_options);
  result.normed = at::empty(x.sizes(), x.options().requires_grad(false));
  with_norm_types(x, [&](auto type, auto wide, auto level) {
    using T = decltype(type);
    using A = decltype(wide);
    kernels::norm_forward<level, T, A>(
        !options.rms, rows.const_data_ptr<T>(), norm.weight.const_data_ptr<A>(),
        data_or_null<A>(norm.bias), static_cast<A>(options.epsilon),
        result.normed.mutable_data_ptr<T>(), data_or_null<A>(result.statistics.mean),
        result.statistics.rstd.mutable_data_ptr<A>(), rows.size(0), rows.size(1));
  });
  result.normed = result.normed.to(norm_weight.scalar_type());
  return result;
}

at::Tensor normalize_rows_again(const at::Tensor& x, const at::Tensor& norm_weight,
                                const at::Tensor& norm_bias, const RowStatistics& statistics,
                                const NormLinearOptions& options) {
  check_norm(x, norm_weight, norm_bias, options);
  const at::NoGradGuard no_grad;
  const WideNorm norm(x, norm_weight, norm_bias, options);
  if (!use_cpu_kernel_or_half(x))
    return scaled(standardized(x, statistics), norm).to(norm_weight.scalar_type());
  const at::Tensor rows = flatten_rows(x);
  const at::Tensor normed = at::empty(x.sizes(), x.options().requires_grad(false));
  with_norm_types(x, [&](auto type, auto wide, auto level) {
    using T = decltype(type);
    using A = decltype(wide);
    kernels::norm_apply<level, T, A>(!options.rms, rows.const_data_ptr<T>(),
                                     norm.weight.const_data_ptr<A>(), data_or_null<A>(norm.bias),
                                     data_or_null<A>(statistics.mean),
                                     statistics.rstd.const_data_ptr<A>(),
                                     normed.mutable_data_ptr<T>(), rows.size(0), rows.size(1));
  });
  return normed.to(norm_weight.scalar_type());
}

NormGradients normalize_rows_backward(const at::Tensor& grad_normed, const at::Tensor& x,
                                      const at::Tensor& norm_weight,
                                      const RowStatistics& statistics,
                                      const NormLinearOptions& options) {
  const at::NoGradGuard no_grad;
  const WideNorm norm(x, norm_weight, /*norm_bias=*/{}, options);
  if (!use_cpu_kernel_or_half(x))
    return unfused_backward(grad_normed, x, norm_weight, statistics, norm);
  return kernel_backward(grad_normed.to(x.scalar_type()), x, norm_weight, statistics, norm,
                         /*again=*/false);
}

NormGradients normalize_rows_backward_and_again(at::Tensor& grad_normed, const at::Tensor& x,
                                                const at::Tensor& norm_weight,
                                                const at::Tensor& norm_bias,
                                                const RowStatistics& statistics,
                                                const NormLinearOptions& options) {
  const at::NoGradGuard no_grad;
  const WideNorm norm(x, norm_weight, norm_bias, options);
  if (!use_cpu_kernel_or_half(x)) {
    NormGradients gradients = unfused_backward(grad_normed, x, norm_weight, statistics, norm);
    grad_normed = scaled(standardized(x, statistics), norm).to(norm_weight.scalar_type());
    return gradients;
  }
  grad_normed = grad_normed.to(x.scalar_type()).contiguous();
  NormGradients gradients =
      kernel_backward(grad_normed, x, norm_weight, statistics, norm, /*again=*/true);
  grad_normed = grad_normed.to(norm_weight.scalar_type());
  return gradients;
}

}  // namespace megatron
