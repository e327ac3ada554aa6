#include "megatron/ops/decode/packed_matrix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/ops/activation.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

using kernels::PackedProduct;
using kernels::ProductEpilogue;

// A product of rows of `x` [rows, k], fp32 or bf16, on the calling thread's team.
at::Tensor multiply_packed(const PackedMatrix& matrix, const at::Tensor& x) {
  const at::Tensor y = at::full({x.size(0), matrix.n()}, 7.0, at::kFloat);
  run_team([&](ThreadTeam& team) {
    matrix.multiply(team, {.rows = x.size(0),
                           .x = x.const_data_ptr(),
                           .x_stride = x.stride(0),
                           .epilogue = ProductEpilogue::store,
                           .y = y.data_ptr<float>(),
                           .y_stride = y.stride(0)});
  });
  return y;
}

struct ProductShape {
  int64_t rows, n, k;
};

class PackedMatrixDtypes : public testing::TestWithParam<at::ScalarType> {};

TEST_P(PackedMatrixDtypes, ProductsEqualThoseInDoublePrecision) {
  const at::ScalarType dtype = GetParam();
  uint64_t seed = 1;
  for (const ProductShape& shape : {ProductShape{1, 1, 2},
                                    {1, 31, 18},
                                    {1, 64, 64},
                                    {2, 33, 50},
                                    {3, 96, 40},
                                    {4, 100, 2},
                                    {5, 65, 66},
                                    {6, 32, 34},
                                    {7, 129, 16},
                                    {13, 70, 48},
                                    {100, 40, 32},
                                    {197, 75, 62}}) {
    SCOPED_TRACE(testing::Message() << shape.rows << " rows, n " << shape.n << ", k " << shape.k);
    const at::Tensor weight = random_tensor({shape.n, shape.k}, dtype, seed++);
    const at::Tensor bias = random_tensor({shape.n}, at::kFloat, seed++);
    for (const bool has_bias : {false, true}) {
      const PackedMatrix matrix(weight, has_bias ? bias : at::Tensor(), dtype);
      const at::Tensor x = random_tensor({shape.rows, shape.k}, matrix.input_dtype(), seed++);
      at::Tensor expected = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
      if (has_bias) expected = expected + bias.to(at::kDouble);
      expect_close(multiply_packed(matrix, x).to(at::kDouble), expected, 2e-5);
    }
  }
}

TEST_P(PackedMatrixDtypes, ARowDoesNotDependOnTheOthersNorOnThreads) {
  const PackedMatrix matrix(random_tensor({83, 58}, GetParam(), 1), {}, GetParam());
  const at::Tensor x = random_tensor({230, 58}, matrix.input_dtype(), 2);
  const at::Tensor together = multiply_packed(matrix, x);
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 8, 97}) {
    for (int64_t first = 0; first + rows <= 12; ++first)
      expect_identical(multiply_packed(matrix, x.narrow(0, first, rows)),
                       together.narrow(0, first, rows));
  }
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  expect_identical(multiply_packed(matrix, x), together, "one thread");
  at::set_num_threads(3);
  expect_identical(multiply_packed(matrix, x), together, "three threads");
  at::set_num_threads(threads);
}

TEST_P(PackedMatrixDtypes, AddsToTheResidual) {
  const PackedMatrix matrix(random_tensor({45, 20}, GetParam(), 1),
                            random_tensor({45}, at::kFloat, 2), GetParam());
  const at::Tensor x = random_tensor({9, 20}, matrix.input_dtype(), 3);
  const at::Tensor residual = random_tensor({9, 45}, at::kFloat, 4), y = residual.clone();
  run_team([&](ThreadTeam& team) {
    matrix.multiply(team, {.rows = 9,
                           .x = x.const_data_ptr(),
                           .x_stride = 20,
                           .epilogue = ProductEpilogue::add,
                           .y = y.data_ptr<float>(),
                           .y_stride = 45,
                           .scale = 0.5f});
  });
  expect_close(y, residual + 0.5 * multiply_packed(matrix, x), 1e-6);
}

TEST_P(PackedMatrixDtypes, ActivatesPlainAndGatedUnits) {
  using kernels::Activation;
  const int64_t f = 45, k = 20, rows = 7;
  for (const bool gated : {false, true}) {
    for (const Activation function : {Activation::gelu, Activation::gelu_tanh, Activation::silu,
                                      Activation::squared_relu, Activation::quick_gelu}) {
      if (function == (gated ? Activation::squared_relu : Activation::silu)) continue;
      ActivationOptions options{.function = function, .glu = {}};
      if (gated) options.glu = GluOptions{.clamp_value = 1.5, .linear_offset = 0.25};
      const int64_t n = gated ? 2 * f : f;
      const at::Tensor weight = random_tensor({n, k}, GetParam(), 1),
                       bias = random_tensor({n}, at::kFloat, 2);
      using enum PackedMatrix::Kind;
      const PackedMatrix matrix(weight, bias, GetParam(), gated ? glu : plain);
      const at::Tensor x = random_tensor({rows, k}, matrix.input_dtype(), 3);
      const at::Tensor z = at::zeros({rows, f}, matrix.input_dtype());
      run_team([&](ThreadTeam& team) {
        matrix.multiply(
            team, {.rows = rows,
                   .x = x.const_data_ptr(),
                   .x_stride = k,
                   .epilogue = gated ? ProductEpilogue::activate_glu : ProductEpilogue::activate,
                   .z = z.data_ptr(),
                   .z_stride = f,
                   .activation = function,
                   .glu = options.glu.value_or(GluOptions())});
      });
      const at::Tensor expected = unfused::bias_activation(
          at::mm(x.to(at::kDouble), weight.to(at::kDouble).t()), bias.to(at::kDouble), options);
      expect_close(z.to(at::kDouble), expected,
                   matrix.input_dtype() == at::kBFloat16 ? 5e-3 : 2e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, PackedMatrixDtypes,
                         testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(PackedMatrix, RefusesDtypesAndSizesWithoutAKernel) {
  const at::Tensor weight = at::ones({4, 3});
  EXPECT_THROW(PackedMatrix(weight, {}, at::kDouble), Error);
  EXPECT_THROW(PackedMatrix(weight, {}, at::kBFloat16), Error);
  EXPECT_NO_THROW(PackedMatrix(weight, {}, at::kHalf));
  EXPECT_THROW(PackedMatrix(at::ones({3, 4}), {}, at::kFloat, PackedMatrix::Kind::glu), Error);
  EXPECT_THROW(PackedMatrix(weight, at::ones({3}), at::kFloat), Error);
}

#if defined(MEGATRON_KERNEL_LEVELS)
template <KernelLevel level, typename W>
void expect_level(at::ScalarType dtype) {
  const int64_t n = 70, k = 36, rows = 11, panels = 3;
  const at::Tensor weight = random_tensor({n, k}, dtype, 1);
  const at::ScalarType input = dtype == at::kBFloat16 ? dtype : at::kFloat;
  const at::Tensor x = random_tensor({rows, k}, input, 2), y = at::zeros({rows, n}, at::kFloat);
  const at::Tensor packed = at::zeros({panels * kernels::kDecodePanel * k}, dtype);
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t row = panel * kernels::kDecodePanel;
    kernels::pack_panel<level, W>(weight.const_data_ptr<W>() + row * k, k,
                                  std::min(kernels::kDecodePanel, n - row), k,
                                  packed.data_ptr<W>() + row * k);
  }
  const PackedProduct product{.rows = rows,
                              .n = n,
                              .k = k,
                              .x = x.const_data_ptr(),
                              .x_stride = k,
                              .panels = packed.const_data_ptr(),
                              .y = y.data_ptr<float>(),
                              .y_stride = n};
  kernels::packed_product<level, W>(product, 0, panels, 0, rows);
  expect_close(y.to(at::kDouble), at::mm(x.to(at::kDouble), weight.to(at::kDouble).t()), 2e-5);
}

TEST(PackedMatrix, EveryLevelOfTheProcessorGivesTheProduct) {
  const auto all_dtypes = [](auto level) {
    expect_level<level, float>(at::kFloat);
    expect_level<level, c10::BFloat16>(at::kBFloat16);
    expect_level<level, c10::Half>(at::kHalf);
  };
  using enum KernelLevel;
  const KernelLevel highest = select_kernel_level("");
  all_dtypes(std::integral_constant<KernelLevel, avx2>());
  if (highest >= avx512) all_dtypes(std::integral_constant<KernelLevel, avx512>());
  if (highest >= avx512_bf16) all_dtypes(std::integral_constant<KernelLevel, avx512_bf16>());
}
#endif

}  // namespace
}  // namespace megatron::test
