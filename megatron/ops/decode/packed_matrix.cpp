#include "megatron/ops/decode/packed_matrix.h"

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/core/parallel_for.h"

namespace megatron {
namespace {

using kernels::kDecodePanel;

// Rows of a block that a thread multiplies with a pair of panels: they stay in its cache.
constexpr int64_t kRowBlock = 96;

template <typename Body>
decltype(auto) dispatch_weights(at::ScalarType dtype, const Body& body) {
  switch (dtype) {
    case at::kFloat:
      return body(float{});
    case at::kBFloat16:
      return body(c10::BFloat16{});
    case at::kHalf:
      return body(c10::Half{});
    default:
      fail("PackedMatrix: Expected weights as fp32, bf16 or fp16, but got {}", dtype_name(dtype));
  }
}

}  // namespace

PackedMatrix::PackedMatrix(const at::Tensor& weight, const at::Tensor& bias, at::ScalarType dtype,
                           Kind kind)
    : dtype_(dtype), kind_(kind) {
  constexpr std::string_view operation = "PackedMatrix";
  check_floating(weight, operation, "weight");
  check(weight.dim() == 2 && weight.is_cpu(), "{}: Expected weight [n, k] on the CPU, but got [{}]",
        operation, fmt::join(weight.sizes(), ", "));
  const int halves = kind == Kind::glu ? 2 : 1;
  k_ = weight.size(1);
  check(weight.size(0) % halves == 0, "{}: Expected an even number of gated outputs, but got {}",
        operation, weight.size(0));
  n_ = weight.size(0) / halves;
  check(dtype != at::kBFloat16 || k_ % 2 == 0,
        "{}: Expected an even number of inputs in bf16, but got {}; fp32 works", operation, k_);
  if (bias.defined()) {
    check_shape(bias, {weight.size(0)}, operation, "bias");
    bias_ = bias.detach().to(at::kFloat).contiguous();
  }
  panels_ = halves * ceil_div(n_, kDecodePanel);
  const at::Tensor rows = weight.detach().to(dtype).contiguous();
  buffer_ = PageBuffer(panels_ * kDecodePanel * k_ * rows.element_size());
  dispatch_weights(dtype, [&](auto value) {
    using W = decltype(value);
    with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
      constexpr KernelLevel kLevel = decltype(level)::value;
      parallel_for(0, panels_, /*grain=*/1, [&](int64_t first, int64_t last) {
        for (int64_t panel = first; panel < last; ++panel) {
          const int64_t row = panel / halves * kDecodePanel;
          const W* from = rows.const_data_ptr<W>() + (panel % halves * n_ + row) * k_;
          kernels::pack_panel<kLevel, W>(
              from, k_, std::min(kDecodePanel, n_ - row), k_,
              static_cast<W*>(buffer_.data()) + panel * kDecodePanel * k_);
        }
      });
    });
  });
}

PackedMatrix PackedMatrix::quantized(const IntGroups& groups, int bits, const at::Tensor& bias,
                                     Kind kind) {
  constexpr std::string_view operation = "PackedMatrix";
  check(bits == 8 || bits == 4, "{}: Expected weights of 8 or 4 bits, but got {}", operation, bits);
  check(groups.codes.dim() == 2 && groups.codes.scalar_type() == at::kShort,
        "{}: Expected codes [n, k] as int16", operation);
  const int64_t rows = groups.codes.size(0), k = groups.codes.size(1);
  const int64_t count = groups.scales.size(1), halves = kind == Kind::glu ? 2 : 1;
  check_shape(groups.scales, {rows, count}, operation, "scales");
  check_shape(groups.zero_points, {rows, count}, operation, "zero points");
  check(rows % halves == 0, "{}: Expected an even number of gated outputs, but got {}", operation,
        rows);
  check(count == 1 || (k % count == 0 && k / count % kernels::kActivationGroup == 0),
        "{}: Expected groups of whole rows or of a multiple of {} weights, but got {} groups of a "
        "row of {}",
        operation, kernels::kActivationGroup, count, k);
  const int64_t lo = rows * k == 0 ? 0 : groups.codes.min().item<int64_t>();
  const int64_t hi = rows * k == 0 ? 0 : groups.codes.max().item<int64_t>();
  const int shift = lo < 0 ? 1 << (bits - 1) : 0;
  check(lo + shift >= 0 && hi + shift < 1 << bits,
        "{}: Expected codes of {} bits, but got some from {} to {}", operation, bits, lo, hi);

  PackedMatrix matrix;
  matrix.n_ = rows / halves;
  matrix.k_ = k;
  matrix.kind_ = kind;
  matrix.panels_ = halves * ceil_div(matrix.n_, kDecodePanel);
  if (bias.defined()) {
    check_shape(bias, {rows}, operation, "bias");
    matrix.bias_ = bias.detach().to(at::kFloat).contiguous();
  }
  matrix.low_bit_ = {.bits = bits,
                     .group_size = count == 1 ? kernels::low_bit_padded(k) : k / count};
  const int64_t panel_bytes = matrix.low_bit_.panel_bytes(k);
  matrix.buffer_ = PageBuffer(matrix.panels_ * panel_bytes);
  const at::Tensor codes = groups.codes.contiguous(), scales = groups.scales.contiguous(),
                   zero_points = groups.zero_points.contiguous();
  with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
    constexpr KernelLevel kLevel = decltype(level)::value;
    parallel_for(0, matrix.panels_, /*grain=*/1, [&](int64_t first, int64_t last) {
      for (int64_t panel = first; panel < last; ++panel) {
        const int64_t row = panel / halves * kDecodePanel;
        const int64_t from = panel % halves * matrix.n_ + row;
        kernels::pack_low_bit_panel<kLevel>(
            matrix.low_bit_, std::min(kDecodePanel, matrix.n_ - row), k, count,
            codes.const_data_ptr<int16_t>() + from * k,
            scales.const_data_ptr<float>() + from * count,
            zero_points.const_data_ptr<int32_t>() + from * count, shift,
            static_cast<char*>(matrix.buffer_.data()) + panel * panel_bytes);
      }
    });
  });
  return matrix;
}

void PackedMatrix::quantize_inputs(const ThreadTeam& team, int64_t rows, const float* x,
                                   int64_t x_stride, void* to) const {
  const WorkRange part = team.part(rows);
  with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
    for (int64_t row = part.first; row < part.last; ++row) {
      kernels::quantize_activations<level>(k_, x + row * x_stride,
                                           static_cast<char*>(to) + row * input_row_bytes());
    }
  });
}

// Calls body(first panel, last panel, first row, last row) for this thread's parts.
template <typename Body>
void PackedMatrix::for_each_part(const ThreadTeam& team, int64_t rows, const Body& body) const {
  const int64_t width = kind_ == Kind::glu ? 2 : 1;
  if (rows <= kRowBlock) {
    const WorkRange panels = team.part(panels_ / width);
    return body(panels.first * width, panels.last * width, int64_t{0}, rows);
  }
  // Pairs of panels by blocks of rows; a thread takes all blocks of a pair in turn.
  const int64_t blocks = ceil_div(rows, kRowBlock);
  const WorkRange parts = team.part(ceil_div(panels_, int64_t{2}) * blocks);
  for (int64_t part = parts.first; part < parts.last; ++part) {
    const int64_t panel = part / blocks * 2, row = part % blocks * kRowBlock;
    body(panel, std::min(panel + 2, panels_), row, std::min(row + kRowBlock, rows));
  }
}

void PackedMatrix::multiply(const ThreadTeam& team, kernels::PackedProduct product) const {
  product.n = n_;
  product.k = k_;
  product.panels = buffer_.data();
  product.bias = data_or_null<const float>(bias_);
  with_kernel_level<KernelLevel::avx512_bf16>([&](auto level) {
    constexpr KernelLevel kLevel = decltype(level)::value;
    for_each_part(team, product.rows,
                  [&](int64_t first, int64_t last, int64_t first_row, int64_t last_row) {
                    if (quantizes_inputs()) {
                      return kernels::low_bit_product<kLevel>(product, low_bit_, first, last,
                                                              first_row, last_row);
                    }
                    dispatch_weights(dtype_, [&](auto value) {
                      kernels::packed_product<kLevel, decltype(value)>(product, first, last,
                                                                       first_row, last_row);
                    });
                  });
  });
}

}  // namespace megatron
