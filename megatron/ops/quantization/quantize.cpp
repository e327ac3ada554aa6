#include "megatron/ops/quantization/quantize.h"

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/quantization/low_precision_kernels.h"
#include "megatron/ops/quantization/quantizable.h"

namespace megatron {
namespace {

at::Tensor checked_matrix(const at::Tensor& x, std::string_view operation) {
  check_quantizable(x, operation);
  check(x.dim() == 2, "{}: Expected a matrix [m, k] as x, but got {} dimensions", operation,
        x.dim());
  return x.contiguous();
}

void check_fp8(LowPrecisionFormat format, std::string_view operation) {
  check(format == LowPrecisionFormat::e4m3 || format == LowPrecisionFormat::e5m2,
        "{}: Expected e4m3 or e5m2, but got {}", operation, format_name(format));
}

float largest_of_dtype(at::ScalarType dtype) {
  return dispatch_quantizable(dtype, [](auto type) {
    return static_cast<float>(std::numeric_limits<decltype(type)>::max());
  });
}

at::Tensor cast_scaled(const at::Tensor& x, LowPrecisionFormat format, float scale,
                       kernels::QuantizationCounts& counts) {
  at::Tensor codes = at::empty(x.sizes(), at::kByte);
  dispatch_quantizable(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_kernel_level([&](auto level) {
      kernels::cast_to_codes<level>(x.const_data_ptr<T>(), x.numel(), scale, format,
                                    CastOverflow::saturate, codes.data_ptr<uint8_t>(), &counts);
    });
  });
  return codes;
}

QuantizedTensor with_one_scale(const at::Tensor& x, LowPrecisionFormat format, float scale) {
  kernels::QuantizationCounts counts;
  const at::Tensor codes = cast_scaled(x, format, scale, counts);
  return {.format = format,
          .rows = x.size(0),
          .columns = x.size(1),
          .block_rows = x.size(0),
          .block_columns = x.size(1),
          .codes = codes,
          .scale_inv = at::full({1, 1}, 1.0f / scale, at::kFloat),
          .saturated = counts.saturated,
          .underflowed = counts.underflowed};
}

// Fills codes and scales of a tensor whose other fields are set.
void fill_blocks(const at::Tensor& x, kernels::BlockScale scale,
                 const kernels::StochasticDraws& draws, QuantizedTensor& out) {
  const bool packed = out.format == LowPrecisionFormat::e2m1;
  out.codes = at::empty({out.rows, packed ? out.columns / 2 : out.columns}, at::kByte);
  out.scale_inv =
      at::empty({ceil_div(out.rows, out.block_rows), ceil_div(out.columns, out.block_columns)},
                scale.kind == kernels::BlockScale::Kind::fp32 ? at::kFloat : at::kByte);
  scale.format = out.format;
  scale.scales = out.scale_inv.data_ptr();
  if (x.numel() == 0) return;
  kernels::QuantizationCounts counts;
  dispatch_quantizable(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_kernel_level([&](auto level) {
      kernels::quantize_blocks<level>(
          x.const_data_ptr<T>(),
          kernels::BlockedShape{out.rows, out.columns, out.block_rows, out.block_columns}, scale,
          draws, out.codes.data_ptr<uint8_t>(), counts);
    });
  });
  out.saturated = counts.saturated;
  out.underflowed = counts.underflowed;
}

}  // namespace

float absolute_max(const at::Tensor& x) {
  check_quantizable(x, "absolute_max");
  const at::Tensor from = x.contiguous();
  return dispatch_quantizable(from.scalar_type(), [&](auto type) {
    using T = decltype(type);
    return with_kernel_level([&](auto level) {
      return kernels::absolute_max<level>(from.const_data_ptr<T>(), from.numel());
    });
  });
}

QuantizedTensor quantize_with_scale(const at::Tensor& x, LowPrecisionFormat format, float scale) {
  check_fp8(format, "quantize_with_scale");
  check(scale > 0 && finite(scale),
        "quantize_with_scale: Expected a positive finite scale, but got {}", scale);
  return with_one_scale(checked_matrix(x, "quantize_with_scale"), format, scale);
}

QuantizedTensor quantize_tensorwise(const at::Tensor& x, LowPrecisionFormat format,
                                    const Fp32ScaleRule& rule, std::optional<float> amax) {
  check_fp8(format, "quantize_tensorwise");
  const at::Tensor from = checked_matrix(x, "quantize_tensorwise");
  return with_one_scale(from, format,
                        fp32_scale(amax ? *amax : absolute_max(from), largest_value(format), rule,
                                   largest_of_dtype(from.scalar_type())));
}

QuantizedTensor quantize_blockwise(const at::Tensor& x, LowPrecisionFormat format,
                                   int64_t block_rows, int64_t block_columns,
                                   const Fp32ScaleRule& rule) {
  check_fp8(format, "quantize_blockwise");
  check(block_rows > 0 && block_columns > 0,
        "quantize_blockwise: Expected blocks of at least 1 x 1, but got {} x {}; 1 x 128 and "
        "128 x 128 are usual",
        block_rows, block_columns);
  const at::Tensor from = checked_matrix(x, "quantize_blockwise");
  QuantizedTensor out{.format = format,
                      .rows = x.size(0),
                      .columns = x.size(1),
                      .block_rows = block_rows,
                      .block_columns = block_columns};
  fill_blocks(from, {.rule = rule, .scale_if_infinite = largest_of_dtype(from.scalar_type())}, {},
              out);
  return out;
}

QuantizedTensor quantize_mxfp8(const at::Tensor& x, LowPrecisionFormat format, int64_t block_rows) {
  check_fp8(format, "quantize_mxfp8");
  check(block_rows == 1 || block_rows == 32,
        "quantize_mxfp8: Expected blocks of 1 or 32 rows, but got {}", block_rows);
  const at::Tensor from = checked_matrix(x, "quantize_mxfp8");
  QuantizedTensor out{.format = format,
                      .scaling = QuantizedTensor::Scaling::e8m0,
                      .rows = x.size(0),
                      .columns = x.size(1),
                      .block_rows = block_rows,
                      .block_columns = 32};
  fill_blocks(from, {.kind = kernels::BlockScale::Kind::e8m0}, {}, out);
  return out;
}

QuantizedTensor quantize_nvfp4(const at::Tensor& x, int64_t block_rows,
                               const std::optional<StochasticRounding>& rounding,
                               std::optional<float> amax) {
  check(block_rows == 1 || block_rows == 16,
        "quantize_nvfp4: Expected blocks of 1 or 16 rows, but got {}", block_rows);
  const at::Tensor from = checked_matrix(x, "quantize_nvfp4");
  check(x.size(1) % 2 == 0,
        "quantize_nvfp4: Expected an even number of columns, two codes to a byte, but got {}; pad "
        "with a column of zeros",
        x.size(1));
  QuantizedTensor out{.format = LowPrecisionFormat::e2m1,
                      .scaling = QuantizedTensor::Scaling::nvfp4,
                      .rows = x.size(0),
                      .columns = x.size(1),
                      .block_rows = block_rows,
                      .block_columns = 16};
  out.amax = amax ? *amax : absolute_max(from);
  out.tensor_scale_inv = finite(out.amax) ? out.amax / 2688.0f : 1.0f;
  kernels::StochasticDraws draws;
  if (rounding) {
    draws = {.enabled = true,
             .key0 = static_cast<uint32_t>(rounding->key),
             .key1 = static_cast<uint32_t>(rounding->key >> 32),
             .first_row = rounding->first_row,
             .first_column = rounding->first_column};
  }
  fill_blocks(
      from,
      {.kind = kernels::BlockScale::Kind::nvfp4, .tensor_scale = nvfp4_tensor_scale(out.amax)},
      draws, out);
  return out;
}

at::Tensor random_hadamard_transform(const at::Tensor& x) {
  check_quantizable(x, "random_hadamard_transform");
  check(x.dim() > 0 && x.size(-1) % 16 == 0,
        "random_hadamard_transform: Expected a last dimension that is a multiple of 16, but got "
        "shape {}",
        c10::str(x.sizes()));
  const at::Tensor from = x.contiguous();
  at::Tensor out = at::empty_like(from);
  dispatch_quantizable(from.scalar_type(), [&](auto type) {
    using T = decltype(type);
    with_kernel_level([&](auto level) {
      kernels::hadamard_transform<level>(from.const_data_ptr<T>(), from.numel(), out.data_ptr<T>());
    });
  });
  return out;
}

}  // namespace megatron
