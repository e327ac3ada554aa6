// Checks, allocation and dispatch of the grouped products, and their unfused versions.
#include "megatron/ops/grouped/grouped_gemm.h"

#include <ATen/ATen.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/grouped/expert_rows.h"
#include "megatron/ops/grouped/grouped_product.h"

namespace megatron {

namespace {

void check_grouped_weight(const at::Tensor& weight, const at::Tensor& rows, int64_t dimension,
                          std::string_view operation) {
  check_alike(weight, rows, operation, "weight");
  check(weight.dim() == 3 && weight.size(dimension) == rows.size(1),
        "{}: Expected weight of shape [experts, n, k] with {} = {}, but got [{}]", operation,
        dimension == 2 ? "k" : "n", rows.size(1), fmt::join(weight.sizes(), ", "));
}

void check_rows(const at::Tensor& rows, std::string_view operation, std::string_view name) {
  check_floating(rows, operation, name);
  check(rows.dim() == 2, "{}: Expected {} of shape [rows, width], but got [{}]", operation, name,
        fmt::join(rows.sizes(), ", "));
}

void check_experts(const ExpertRows& experts, const at::Tensor& weight,
                   std::string_view operation) {
  check(experts.experts() == weight.size(0), "{}: Expected counts of {} experts, but got {}",
        operation, weight.size(0), experts.experts());
}

// The rows of one expert.
at::Tensor rows_of(const at::Tensor& rows, const ExpertRows& experts, int64_t expert) {
  return rows.narrow(0, experts.first(expert), experts.size(expert));
}

at::TensorOptions plain_options(const at::Tensor& like) {
  return like.options().requires_grad(false);
}

at::Tensor contiguous_or_undefined(const at::Tensor& x) {
  return x.defined() ? x.contiguous() : x;
}

at::Tensor widened(const at::Tensor& x) {
  return x.defined() ? x.to(at::kFloat) : x;
}

// libtorch's grouped product takes bf16 on GPUs, with widths that are multiples of 16 bytes.
bool use_libtorch_grouped(const at::Tensor& rows, const at::Tensor& other) {
  constexpr int64_t multiple = 8;
  return rows.is_cuda() && rows.scalar_type() == at::kBFloat16 && rows.size(0) > 0 &&
         rows.size(1) % multiple == 0 && other.size(-1) % multiple == 0 &&
         other.size(-2) % multiple == (other.dim() == 3 ? 0 : other.size(-2) % multiple);
}

// left [t, k] and right [e, k, n] -> [t, n], or left [m, t] and right [t, n] -> [e, m, n]. On every
// device that libtorch has it for.
at::Tensor libtorch_grouped(const at::Tensor& left, const at::Tensor& right,
                            const ExpertRows& experts) {
  const std::vector<int32_t> ends(experts.offsets().begin() + 1, experts.offsets().end());
  const at::Tensor offsets = at::tensor(ends, at::TensorOptions(at::kInt)).to(left.device());
  return at::_grouped_mm(left, right, offsets);
}

at::Tensor add_rows_of_bias(const at::Tensor& rows, const at::Tensor& bias,
                            const at::Tensor& counts) {
  return rows + bias.repeat_interleave(counts.to(rows.device()), 0);
}

}  // namespace

namespace unfused {

at::Tensor grouped_gemm(const at::Tensor& x, const at::Tensor& counts, const at::Tensor& weight,
                        const at::Tensor& bias) {
  const ExpertRows experts(counts, x.size(0), "grouped_gemm");
  std::vector<at::Tensor> parts;
  for (int64_t i = 0; i < experts.experts(); ++i) {
    const at::Tensor rows = rows_of(x, experts, i), matrix = weight.select(0, i).t();
    parts.push_back(bias.defined() ? at::addmm(bias.select(0, i), rows, matrix)
                                   : at::mm(rows, matrix));
  }
  return at::cat(parts);
}

at::Tensor grouped_gemm_input_gradient(const at::Tensor& grad_y, const at::Tensor& counts,
                                       const at::Tensor& weight) {
  const ExpertRows experts(counts, grad_y.size(0), "grouped_gemm_input_gradient");
  std::vector<at::Tensor> parts;
  for (int64_t i = 0; i < experts.experts(); ++i) {
    parts.push_back(at::mm(rows_of(grad_y, experts, i), weight.select(0, i)));
  }
  return at::cat(parts);
}

void accumulate_grouped_weight_gradient(at::Tensor& grad_weight, const at::Tensor& grad_y,
                                        const at::Tensor& x, const at::Tensor& counts) {
  const ExpertRows experts(counts, x.size(0), "accumulate_grouped_weight_gradient");
  for (int64_t i = 0; i < experts.experts(); ++i) {
    if (experts.size(i) == 0) continue;
    grad_weight.select(0, i).add_(at::mm(rows_of(grad_y, experts, i).t(), rows_of(x, experts, i)));
  }
}

at::Tensor grouped_bias_gradient(const at::Tensor& grad_y, const at::Tensor& counts,
                                 const at::Tensor& row_weights) {
  const ExpertRows experts(counts, grad_y.size(0), "grouped_bias_gradient");
  const auto wide = accumulation_dtype(grad_y.scalar_type());
  at::Tensor rows = grad_y.to(wide);
  if (row_weights.defined()) rows = rows * row_weights.to(wide).unsqueeze(1);
  std::vector<at::Tensor> sums;
  for (int64_t i = 0; i < experts.experts(); ++i) {
    sums.push_back(rows_of(rows, experts, i).sum(0));
  }
  return at::stack(sums).to(grad_y.scalar_type());
}

}  // namespace unfused

at::Tensor grouped_gemm(const at::Tensor& x, const at::Tensor& counts, const at::Tensor& weight,
                        const at::Tensor& bias) {
  constexpr std::string_view operation = "grouped_gemm";
  check_rows(x, operation, "x");
  check_grouped_weight(weight, x, 2, operation);
  if (bias.defined()) {
    check_shape(bias, {weight.size(0), weight.size(1)}, operation, "bias");
    check_alike(bias, x, operation, "bias");
  }
  const ExpertRows experts(counts, x.size(0), operation);
  check_experts(experts, weight, operation);
  const at::NoGradGuard no_grad;
  if (use_cpu_kernel(x)) {
    const at::Tensor out = at::empty({x.size(0), weight.size(1)}, plain_options(x));
    grouped::multiply(out, x.contiguous(), experts, weight.contiguous(),
                      contiguous_or_undefined(bias),
                      /*row_weights=*/{});
    return out;
  }
  if (widens_for_products(x)) {
    return grouped_gemm(widened(x), counts, widened(weight), widened(bias)).to(at::kHalf);
  }
  if (use_libtorch_grouped(x, weight)) {
    const at::Tensor out = libtorch_grouped(x, weight.transpose(1, 2), experts);
    return bias.defined() ? add_rows_of_bias(out, bias, counts) : out;
  }
  return unfused::grouped_gemm(x, counts, weight, bias);
}

at::Tensor grouped_gemm_input_gradient(const at::Tensor& grad_y, const at::Tensor& counts,
                                       const at::Tensor& weight) {
  constexpr std::string_view operation = "grouped_gemm_input_gradient";
  check_rows(grad_y, operation, "grad_y");
  check_grouped_weight(weight, grad_y, 1, operation);
  const ExpertRows experts(counts, grad_y.size(0), operation);
  check_experts(experts, weight, operation);
  const at::NoGradGuard no_grad;
  if (use_cpu_kernel(grad_y)) {
    const at::Tensor out = at::empty({grad_y.size(0), weight.size(2)}, plain_options(grad_y));
    grouped::input_gradient(out, grad_y.contiguous(), experts, weight.contiguous());
    return out;
  }
  if (widens_for_products(grad_y)) {
    return grouped_gemm_input_gradient(widened(grad_y), counts, widened(weight)).to(at::kHalf);
  }
  if (use_libtorch_grouped(grad_y, weight)) return libtorch_grouped(grad_y, weight, experts);
  return unfused::grouped_gemm_input_gradient(grad_y, counts, weight);
}

void accumulate_grouped_weight_gradient(at::Tensor& grad_weight, const at::Tensor& grad_y,
                                        const at::Tensor& x, const at::Tensor& counts) {
  constexpr std::string_view operation = "accumulate_grouped_weight_gradient";
  check_rows(grad_y, operation, "grad_y");
  check_rows(x, operation, "x");
  check_alike(x, grad_y, operation, "x");
  check_shape(x, {grad_y.size(0), x.size(1)}, operation, "x");
  check_alike(grad_weight, x, operation, "grad_weight", /*dtype=*/false);
  const ExpertRows experts(counts, x.size(0), operation);
  check_shape(grad_weight, {experts.experts(), grad_y.size(1), x.size(1)}, operation,
              "grad_weight");
  const auto dtype = grad_weight.scalar_type(), wide = accumulation_dtype(x.scalar_type());
  check(grad_weight.is_contiguous() && (dtype == x.scalar_type() || dtype == wide),
        "{}: Expected a contiguous grad_weight of dtype {} or {}, but got {}{}", operation,
        dtype_name(x.scalar_type()), dtype_name(wide),
        grad_weight.is_contiguous() ? "" : "a strided view of ", c10::toString(dtype));
  const at::NoGradGuard no_grad;
  if (use_cpu_kernel(x)) {
    grouped::weight_gradient(grad_weight, grad_y.contiguous(), x.contiguous(), experts,
                             /*accumulate=*/true);
  } else if (widens_for_products(x) && dtype == at::kFloat) {
    accumulate_grouped_weight_gradient(grad_weight, widened(grad_y), widened(x), counts);
  } else if (use_libtorch_grouped(x, grad_y)) {
    grad_weight.add_(libtorch_grouped(grad_y.t(), x, experts));
  } else {
    unfused::accumulate_grouped_weight_gradient(grad_weight, grad_y, x, counts);
  }
}

at::Tensor grouped_weight_gradient(const at::Tensor& grad_y, const at::Tensor& x,
                                   const at::Tensor& counts) {
  constexpr std::string_view operation = "grouped_weight_gradient";
  check_rows(grad_y, operation, "grad_y");
  check_rows(x, operation, "x");
  check_alike(x, grad_y, operation, "x");
  check_shape(x, {grad_y.size(0), x.size(1)}, operation, "x");
  const ExpertRows experts(counts, x.size(0), operation);
  const std::vector<int64_t> shape{experts.experts(), grad_y.size(1), x.size(1)};
  const at::NoGradGuard no_grad;
  if (use_cpu_kernel(x)) {
    at::Tensor gradient = at::empty(shape, plain_options(x));
    grouped::weight_gradient(gradient, grad_y.contiguous(), x.contiguous(), experts,
                             /*accumulate=*/false);
    return gradient;
  }
  if (widens_for_products(x))
    return grouped_weight_gradient(widened(grad_y), widened(x), counts).to(at::kHalf);
  if (use_libtorch_grouped(x, grad_y)) return libtorch_grouped(grad_y.t(), x, experts);
  at::Tensor gradient = at::zeros(shape, plain_options(x));
  unfused::accumulate_grouped_weight_gradient(gradient, grad_y, x, counts);
  return gradient;
}

at::Tensor grouped_bias_gradient(const at::Tensor& grad_y, const at::Tensor& counts,
                                 const at::Tensor& row_weights) {
  constexpr std::string_view operation = "grouped_bias_gradient";
  check_rows(grad_y, operation, "grad_y");
  const ExpertRows experts(counts, grad_y.size(0), operation);
  if (row_weights.defined()) {
    check_floating(row_weights, operation, "row_weights");
    check_shape(row_weights, {grad_y.size(0)}, operation, "row_weights");
  }
  const at::NoGradGuard no_grad;
  if (use_cpu_kernel(grad_y)) {
    const at::Tensor out = at::empty({experts.experts(), grad_y.size(1)}, plain_options(grad_y));
    const at::Tensor weights =
        row_weights.defined()
            ? row_weights.to(accumulation_dtype(grad_y.scalar_type())).contiguous()
            : row_weights;
    grouped::bias_gradient(out, grad_y.contiguous(), experts, weights);
    return out;
  }
  return unfused::grouped_bias_gradient(grad_y, counts, row_weights);
}

}  // namespace megatron
