#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/ops/decode/packed_matrix.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

struct LowBitCase {
  int bits;
  IntGroupOptions options;
};

std::vector<LowBitCase> low_bit_cases() {
  return {{8, {}},
          {8, {.lo = 0, .hi = 255, .mapping = IntMapping::asymmetric}},
          {4, {.lo = -8, .hi = 7, .group_size = 32}},
          {4, {.lo = -8, .hi = 7, .group_size = 64, .mapping = IntMapping::least_squares}},
          {4, {.lo = 0, .hi = 15, .group_size = 64, .mapping = IntMapping::asymmetric}}};
}

// The activations as the kernel rounds them: 8 bits in groups of 32, ties away from zero.
at::Tensor rounded_activations(const at::Tensor& x) {
  const int64_t rows = x.size(0), k = x.size(1), padded = kernels::low_bit_padded(k);
  const at::Tensor groups =
      at::constant_pad_nd(x, {0, padded - k}).view({rows, -1, kernels::kActivationGroup});
  const at::Tensor largest = groups.abs().amax(2, /*keepdim=*/true);
  const at::Tensor scaled = groups * at::where(largest > 0, 127.0 / largest, 0.0).to(at::kFloat);
  const at::Tensor codes = at::trunc(scaled + at::sign(scaled) * 0.5);
  return (codes.to(at::kDouble) * (largest / 127.0).to(at::kDouble))
      .view({rows, padded})
      .narrow(1, 0, k);
}

at::Tensor multiply_quantized(const PackedMatrix& matrix, const at::Tensor& x) {
  const int64_t rows = x.size(0);
  const at::Tensor y = at::zeros({rows, matrix.n()}, at::kFloat);
  std::vector<char> inputs(rows * matrix.input_row_bytes());
  run_team([&](ThreadTeam& team) {
    matrix.quantize_inputs(team, rows, x.const_data_ptr<float>(), x.stride(0), inputs.data());
    team.barrier();
    matrix.multiply(team, {.rows = rows,
                           .x = inputs.data(),
                           .x_stride = matrix.input_row_bytes(),
                           .y = y.data_ptr<float>(),
                           .y_stride = y.stride(0)});
  });
  return y;
}

TEST(LowBitMatrix, ProductsAreThoseOfTheRoundedValues) {
  uint64_t seed = 1;
  for (const LowBitCase& format : low_bit_cases()) {
    for (const auto& [rows, n, k] : {std::tuple<int64_t, int64_t, int64_t>{1, 40, 64},
                                     {1, 65, 192},
                                     {2, 31, 128},
                                     {3, 64, 320},
                                     {7, 33, 64},
                                     {101, 70, 128}}) {
      SCOPED_TRACE(testing::Message() << format.bits << " bits, " << rows << " rows, n " << n);
      const IntGroups groups =
          quantize_int_groups(random_tensor({n, k}, at::kFloat, seed++), format.options);
      const at::Tensor bias = random_tensor({n}, at::kFloat, seed++);
      const PackedMatrix matrix = PackedMatrix::quantized(groups, format.bits, bias);
      const at::Tensor x = random_tensor({rows, k}, at::kFloat, seed++);
      const at::Tensor expected =
          at::mm(rounded_activations(x), dequantize_int_groups(groups).to(at::kDouble).t()) +
          bias.to(at::kDouble);
      expect_close(multiply_quantized(matrix, x).to(at::kDouble), expected, 1e-4);
    }
  }
}

TEST(LowBitMatrix, RowsOfOddLengthArePadded) {
  const IntGroups groups = quantize_int_groups(random_tensor({20, 75}, at::kFloat, 1), {});
  const PackedMatrix matrix = PackedMatrix::quantized(groups, 8, {});
  const at::Tensor x = random_tensor({4, 75}, at::kFloat, 2);
  const at::Tensor expected =
      at::mm(rounded_activations(x), dequantize_int_groups(groups).to(at::kDouble).t());
  expect_close(multiply_quantized(matrix, x).to(at::kDouble), expected, 1e-4);
}

TEST(LowBitMatrix, ARowDoesNotDependOnTheOthers) {
  for (const LowBitCase& format : low_bit_cases()) {
    const PackedMatrix matrix = PackedMatrix::quantized(
        quantize_int_groups(random_tensor({70, 128}, at::kFloat, 1), format.options), format.bits,
        {});
    const at::Tensor x = random_tensor({120, 128}, at::kFloat, 2),
                     together = multiply_quantized(matrix, x);
    for (const int64_t rows : {1, 2, 3, 5})
      expect_identical(multiply_quantized(matrix, x.narrow(0, 3, rows)),
                       together.narrow(0, 3, rows));
  }
}

TEST(LowBitMatrix, RefusesCodesAndGroupsThatDoNotFit) {
  const at::Tensor weight = random_tensor({4, 96}, at::kFloat, 1);
  const IntGroups wide = quantize_int_groups(weight, {});
  EXPECT_THROW(PackedMatrix::quantized(wide, 4, {}), Error);
  EXPECT_THROW(PackedMatrix::quantized(wide, 3, {}), Error);
  const IntGroups narrow = quantize_int_groups(weight, {.lo = -8, .hi = 7, .group_size = 24});
  EXPECT_THROW(PackedMatrix::quantized(narrow, 4, {}), Error);
  EXPECT_THROW(quantize_int_groups(weight, {.group_size = 36}), Error);
  EXPECT_THROW(quantize_int_groups(weight / 0.0, {}), Error);
}

TEST(IntGroups, LeastSquaresHasNoLargerError) {
  const at::Tensor weight = random_tensor({16, 256}, at::kFloat, 1).pow(3);
  IntGroupOptions options{.lo = -8, .hi = 7, .group_size = 64};
  const auto error = [&](IntMapping mapping) {
    options.mapping = mapping;
    return (dequantize_int_groups(quantize_int_groups(weight, options)) - weight)
        .square()
        .sum()
        .item<double>();
  };
  EXPECT_LT(error(IntMapping::least_squares), 0.98 * error(IntMapping::symmetric));
}

#if defined(MEGATRON_KERNEL_LEVELS)
// Integer sums are exact, so all levels agree up to the rounding of the fp32 sums over groups.
TEST(LowBitMatrix, EveryLevelOfTheProcessorGivesTheSameProduct) {
  const int64_t n = 32, k = 128, rows = 3;
  for (const LowBitCase& format : low_bit_cases()) {
    const IntGroups groups =
        quantize_int_groups(random_tensor({n, k}, at::kFloat, 1), format.options);
    const at::Tensor x = random_tensor({rows, k}, at::kFloat, 2);
    const kernels::LowBitFormat packed{.bits = format.bits,
                                       .group_size = k / groups.scales.size(1)};
    const auto at_level = [&](auto level) {
      const at::Tensor y = at::zeros({rows, n}, at::kFloat);
      const int64_t stride = kernels::low_bit_row_bytes(k);
      std::vector<char> inputs(rows * stride), panel(packed.panel_bytes(k));
      for (int64_t row = 0; row < rows; ++row) {
        kernels::quantize_activations<level>(k, x.const_data_ptr<float>() + row * k,
                                             inputs.data() + row * stride);
      }
      kernels::pack_low_bit_panel<level>(
          packed, n, k, groups.scales.size(1), groups.codes.const_data_ptr<int16_t>(),
          groups.scales.const_data_ptr<float>(), groups.zero_points.const_data_ptr<int32_t>(),
          format.options.lo < 0 ? 1 << (format.bits - 1) : 0, panel.data());
      kernels::low_bit_product<level>({.rows = rows,
                                       .n = n,
                                       .k = k,
                                       .x = inputs.data(),
                                       .x_stride = stride,
                                       .panels = panel.data(),
                                       .y = y.data_ptr<float>(),
                                       .y_stride = n},
                                      packed, 0, 1, 0, rows);
      return y;
    };
    using enum KernelLevel;
    const at::Tensor expected = at_level(std::integral_constant<KernelLevel, avx2>());
    const at::Tensor reference =
        at::mm(rounded_activations(x), dequantize_int_groups(groups).to(at::kDouble).t());
    expect_close(expected.to(at::kDouble), reference, 1e-4);
    const KernelLevel highest = select_kernel_level("");
    if (highest >= avx512)
      expect_close(at_level(std::integral_constant<KernelLevel, avx512>()), expected, 1e-5);
    if (highest >= avx512_bf16)
      expect_close(at_level(std::integral_constant<KernelLevel, avx512_bf16>()), expected, 1e-5);
  }
}
#endif

}  // namespace
}  // namespace megatron::test
