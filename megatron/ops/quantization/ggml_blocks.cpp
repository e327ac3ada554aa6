#include "megatron/ops/quantization/ggml_blocks.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/ops/core/kernel_level.h"
#include "megatron/ops/quantization/ggml_blocks_kernels.h"

namespace megatron {
namespace {

constexpr double kLargestHalf = 65520;  // rounds to infinity, as all above

// The floating-point type with the same layout; none for a quantized type.
std::optional<at::ScalarType> plain_dtype(GgmlType type) {
  switch (type) {
    case GgmlType::F32:
      return at::kFloat;
    case GgmlType::F16:
      return at::kHalf;
    case GgmlType::BF16:
      return at::kBFloat16;
    default:
      return std::nullopt;
  }
}

void check_block_bytes(GgmlType type, int64_t values, size_t bytes) {
  const int64_t expected = ggml_row_bytes(type, values);
  check(static_cast<size_t>(expected) == bytes, "Expected {} bytes for {} values of {}, but got {}",
        expected, values, ggml_type_name(type), bytes);
}

void check_contiguous(const at::Tensor& tensor) {
  check(tensor.is_contiguous() && tensor.device().is_cpu(),
        "Expected a contiguous CPU tensor for GGUF blocks, but got strides {} on {}",
        c10::str(tensor.strides()), c10::str(tensor.device()));
}

template <typename T>
void dequantize_to(GgmlType type, std::span<const std::byte> blocks, at::Tensor& out) {
  const auto* from = reinterpret_cast<const uint8_t*>(blocks.data());
  const int64_t count = out.numel() / ggml_type_size(type).block_values;
  with_kernel_level([&](auto level) {
    kernels::dequantize_ggml_blocks<level>(type, from, count, out.data_ptr<T>());
  });
}

void check_range(const at::Tensor& values, double limit, GgmlType type) {
  if (values.numel() == 0) return;
  const auto [least, most] = at::aminmax(values);
  const double low = least.item<double>(), high = most.item<double>();
  check(-limit < low && high < limit,
        "Expected values between -{0} and {0} for {1}, but got {2} to {3}; bf16 and f32 hold them",
        limit, ggml_type_name(type), low, high);
}

}  // namespace

void dequantize_ggml(GgmlType type, std::span<const std::byte> blocks, at::Tensor& out) {
  check_contiguous(out);
  check_block_bytes(type, out.numel(), blocks.size());
  if (out.numel() == 0) return;
  if (const auto dtype = plain_dtype(type)) {
    // from_blob takes memory that may be written; it is only read here.
    out.copy_(at::from_blob(const_cast<std::byte*>(blocks.data()), out.sizes(), *dtype));
    return;
  }
  switch (out.scalar_type()) {
    case at::kFloat:
      return dequantize_to<float>(type, blocks, out);
    case at::kBFloat16:
      return dequantize_to<c10::BFloat16>(type, blocks, out);
    case at::kHalf:
      return dequantize_to<c10::Half>(type, blocks, out);
    default:
      fail("Expected to decode GGUF blocks to fp32, bf16 or fp16, but got {}",
           c10::toString(out.scalar_type()));
  }
}

void quantize_ggml(GgmlType type, const at::Tensor& values, std::span<std::byte> blocks) {
  check_contiguous(values);
  check_block_bytes(type, values.numel(), blocks.size());
  if (values.numel() == 0) return;
  if (const auto dtype = plain_dtype(type)) {
    if (type == GgmlType::F16 && values.scalar_type() != at::kHalf) {
      check_range(values, kLargestHalf, type);
    }
    at::from_blob(blocks.data(), values.sizes(), *dtype).copy_(values);
    return;
  }
  check(type == GgmlType::Q8_0,
        "Expected to write GGUF tensors as F32, F16, BF16 or Q8_0, but got {}",
        ggml_type_name(type));
  check_range(values, kLargestHalf * 127, type);
  const at::Tensor floats = values.to(at::kFloat);
  with_kernel_level([&](auto level) {
    kernels::quantize_q8_0<level>(floats.const_data_ptr<float>(), floats.numel() / 32,
                                  reinterpret_cast<uint8_t*>(blocks.data()));
  });
}

}  // namespace megatron
