#include "megatron/ops/quantization/int_groups.h"

#include <limits>

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"

namespace megatron {
namespace {

// The least normal number: the scale of groups of zeros, as in torchao.
constexpr double kLeastScale = std::numeric_limits<float>::min();
constexpr int64_t kShrinkSteps = 32;

// Codes of x [n, groups, size] as floats.
at::Tensor codes_of(const at::Tensor& x, const at::Tensor& scales, const at::Tensor& zero_points,
                    const IntGroupOptions& options) {
  return (at::round(x * scales.reciprocal().unsqueeze(2)) + zero_points.unsqueeze(2))
      .clamp(static_cast<double>(options.lo), static_cast<double>(options.hi));
}

// The one of the scales scales * (1 - i / 64) whose squared error is least.
at::Tensor least_squares_scales(const at::Tensor& x, const at::Tensor& scales,
                                const IntGroupOptions& options) {
  const at::Tensor zeros = at::zeros_like(scales);
  at::Tensor best = scales, least;
  for (int64_t i = 0; i < kShrinkSteps; ++i) {
    const at::Tensor candidate =
        (scales * (1.0 - double(i) / (2 * kShrinkSteps))).clamp_min(kLeastScale);
    const at::Tensor codes = codes_of(x, candidate, zeros, options);
    const at::Tensor error = (x - codes * candidate.unsqueeze(2)).square().sum(2);
    if (!least.defined()) {
      least = error;
      continue;
    }
    best = at::where(error < least, candidate, best);
    least = at::minimum(error, least);
  }
  return best;
}

}  // namespace

IntGroups quantize_int_groups(const at::Tensor& weight, const IntGroupOptions& options) {
  constexpr std::string_view operation = "quantize_int_groups";
  check_floating(weight, operation, "weight");
  check(weight.dim() == 2, "{}: Expected weight [n, k], but got [{}]", operation,
        fmt::join(weight.sizes(), ", "));
  check(options.lo < options.hi && options.hi - options.lo < 256,
        "{}: Expected a range of 2 to 256 codes, but got [{}, {}]", operation, options.lo,
        options.hi);
  const int64_t n = weight.size(0), k = weight.size(1);
  const int64_t size = options.group_size == 0 ? k : options.group_size;
  check(size > 0 && k % size == 0,
        "{}: Expected a row of a multiple of {} values (the group size), but got {}", operation,
        size, k);
  const at::NoGradGuard no_grad;
  const at::Tensor x = weight.detach().to(at::kFloat).contiguous().view({n, k / size, size});
  check(x.isfinite().all().item<bool>(), "{}: Expected finite weights, but got others", operation);
  const auto lo = static_cast<double>(options.lo), hi = static_cast<double>(options.hi);
  const at::Tensor least = x.amin(2).clamp_max(0.0), most = x.amax(2).clamp_min(0.0);
  at::Tensor scales, zero_points = at::zeros_like(least);
  switch (options.mapping) {
    case IntMapping::symmetric:
    case IntMapping::least_squares:
      scales = at::maximum(-least, most) / ((hi - lo) / 2.0);
      break;
    case IntMapping::symmetric_no_clipping:
      scales = at::maximum(least / lo, most / hi);
      break;
    case IntMapping::asymmetric:
      scales = (most - least) / (hi - lo);
      break;
  }
  scales = scales.clamp_min(kLeastScale);
  if (options.mapping == IntMapping::least_squares)
    scales = least_squares_scales(x, scales, options);
  if (options.mapping == IntMapping::asymmetric)
    zero_points = (lo - at::round(least / scales)).clamp(lo, hi);
  return {.codes = codes_of(x, scales, zero_points, options).view({n, k}).to(at::kShort),
          .scales = scales.contiguous(),
          .zero_points = zero_points.to(at::kInt).contiguous()};
}

at::Tensor dequantize_int_groups(const IntGroups& groups) {
  const int64_t n = groups.codes.size(0), k = groups.codes.size(1);
  const at::Tensor codes = groups.codes.to(at::kInt).view({n, groups.scales.size(1), -1});
  return ((codes - groups.zero_points.unsqueeze(2)).to(at::kFloat) * groups.scales.unsqueeze(2))
      .view({n, k});
}

}  // namespace megatron
