#include "megatron/ops/grouped/grouped_gemm.h"

#include "megatron/ops/grouped/expert_rows.h"
#include "megatron/ops/grouped/grouped_linear.h"
#include "megatron/ops/grouped/grouped_product.h"
#include "megatron/ops/matmul/block_gemm.h"

#include "tests/ops/grouped/grouped_test.h"

namespace megatron::test {
namespace {

using Counts = std::vector<int64_t>;

struct GroupedInputs {
  at::Tensor x, weight, bias, grad_y;  // [t, k], [e, n, k], [e, n], [t, n]
};

GroupedInputs grouped_inputs(const Counts& counts, int64_t n, int64_t k, at::ScalarType dtype) {
  const int64_t rows = sum_of(counts), experts = static_cast<int64_t>(counts.size());
  return {random_tensor({rows, k}, dtype, 1), random_tensor({experts, n, k}, dtype, 2),
          random_tensor({experts, n}, dtype, 3), random_tensor({rows, n}, dtype, 4)};
}

// The error of rounding the result to the dtype, and of sums in fp32.
double product_bound(at::ScalarType dtype, const at::Tensor& want) {
  const double largest = want.numel() == 0 ? 0 : want.abs().max().item<double>();
  if (dtype == at::kDouble) return 1e-12 * (1 + largest);
  if (dtype == at::kBFloat16) return largest * 0.004 + 1e-4;
  return dtype == at::kHalf ? largest * 0.001 + 1e-3 : 1e-5 * (1 + largest);
}

at::Tensor wide(const at::Tensor& x) {
  return x.to(at::kDouble);
}

// Every product against libtorch's, one expert at a time in fp64.
void expect_products(const Counts& counts, int64_t n, int64_t k, at::ScalarType dtype) {
  SCOPED_TRACE(
      fmt::format("counts {} n {} k {} {}", fmt::join(counts, ","), n, k, c10::toString(dtype)));
  const GroupedInputs in = grouped_inputs(counts, n, k, dtype);
  const at::Tensor count = counts_tensor(counts);
  const auto expect_product = [&](const at::Tensor& got, const at::Tensor& want,
                                  const std::string& what) {
    expect_close(wide(got), want, product_bound(dtype, want), what);
  };
  expect_product(grouped_gemm(in.x, count, in.weight, in.bias),
                 unfused::grouped_gemm(wide(in.x), count, wide(in.weight), wide(in.bias)),
                 "forward");
  expect_product(grouped_gemm(in.x, count, in.weight, {}),
                 unfused::grouped_gemm(wide(in.x), count, wide(in.weight), {}),
                 "forward without bias");
  expect_product(grouped_gemm_input_gradient(in.grad_y, count, in.weight),
                 unfused::grouped_gemm_input_gradient(wide(in.grad_y), count, wide(in.weight)),
                 "input gradient");
  at::Tensor want = at::zeros({static_cast<int64_t>(counts.size()), n, k}, at::kDouble);
  unfused::accumulate_grouped_weight_gradient(want, wide(in.grad_y), wide(in.x), count);
  expect_product(grouped_weight_gradient(in.grad_y, in.x, count), want, "weight gradient");
  for (const auto sum_dtype : {dtype, dtype == at::kDouble ? at::kDouble : at::kFloat}) {
    at::Tensor sum = random_tensor(want.sizes(), sum_dtype, 5);
    const at::Tensor want_sum = wide(sum) + want;
    accumulate_grouped_weight_gradient(sum, in.grad_y, in.x, count);
    expect_product(sum, want_sum, "accumulated weight gradient");
  }
  const at::Tensor weights = random_tensor({sum_of(counts)}, at::kFloat, 6);
  for (const at::Tensor& row_weights : {weights, at::Tensor()}) {
    expect_product(
        grouped_bias_gradient(in.grad_y, count, row_weights),
        unfused::grouped_bias_gradient(wide(in.grad_y), count,
                                       row_weights.defined() ? wide(row_weights) : row_weights),
        "bias gradient");
  }
}

// Counts around those of few rows, register tiles, blocks and tasks.
TEST(GroupedGemm, MatchesFp64) {
  for (const auto dtype : all_dtypes()) {
    expect_products({16, 16, 16, 16}, 64, 64, dtype);
    expect_products({0, 1, 2, 3, 4, 5, 23, 24, 25, 0}, 96, 32, dtype);
    expect_products({47, 48, 49, 100}, 70, 130, dtype);
    expect_products({1100, 0, 3}, 40, 34, dtype);
    expect_products({0, 0}, 8, 8, dtype);
    expect_products({1}, 1, 1, dtype);
    expect_products({7, 30}, 3, 5, dtype);
    expect_products({5, 60}, 600, 33, dtype);
    expect_products({2, 26}, 33, 1100, dtype);
  }
}

TEST(GroupedGemm, MatchesFp64ForRandomShapes) {
  RandomCounts random(1);
  for (int i = 0; i < 150; ++i) {
    expect_products(random.counts(), random.between(1, 200), random.between(1, 200),
                    std::array{at::kFloat, at::kDouble, at::kBFloat16}[i % 3]);
  }
}

TEST(GroupedGemm, DoesNotDependOnThreads) {
  const Counts counts{300, 0, 5, 17, 40, 1, 130};
  const int threads = at::get_num_threads();
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const GroupedInputs in = grouped_inputs(counts, 200, 150, dtype);
    const at::Tensor count = counts_tensor(counts);
    std::vector<std::vector<at::Tensor>> results;
    for (const int number : {1, 2, 3, 8}) {
      at::set_num_threads(number);
      at::Tensor sum = at::ones(in.weight.sizes());
      accumulate_grouped_weight_gradient(sum, in.grad_y, in.x, count);
      results.push_back({grouped_gemm(in.x, count, in.weight, in.bias),
                         grouped_gemm_input_gradient(in.grad_y, count, in.weight), sum,
                         grouped_weight_gradient(in.grad_y, in.x, count),
                         grouped_bias_gradient(in.grad_y, count)});
    }
    at::set_num_threads(threads);
    for (size_t i = 1; i < results.size(); ++i) {
      for (size_t j = 0; j < results[i].size(); ++j) {
        expect_identical(results[i][j], results[0][j], std::to_string(j));
      }
    }
  }
}

// The kernel of the matrix unit, on any machine.
TEST(GroupedGemm, BrgemmAgreesWithTiles) {
  if (!has_fast_bf16_gemm()) GTEST_SKIP() << "without bf16 instructions";
  const Counts counts{300, 0, 5, 133, 64};
  const auto dtype = at::kBFloat16;
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{200, 150}, {64, 128}}) {
    const GroupedInputs in = grouped_inputs(counts, n, k, dtype);
    const ExpertRows rows(counts_tensor(counts), sum_of(counts), "test");
    std::vector<std::vector<at::Tensor>> results;
    for (const auto kernel : {grouped::BlockKernel::tiles, grouped::BlockKernel::brgemm}) {
      at::Tensor y = at::empty_like(in.grad_y), grad_x = at::empty_like(in.x);
      at::Tensor sum = at::ones(in.weight.sizes());
      grouped::multiply(y, in.x, rows, in.weight, in.bias, {}, kernel);
      grouped::input_gradient(grad_x, in.grad_y, rows, in.weight, kernel);
      grouped::weight_gradient(sum, in.grad_y, in.x, rows, /*accumulate=*/true, kernel);
      results.push_back({y, grad_x, sum});
    }
    for (int i = 0; i < 3; ++i) {
      expect_close(results[1][i], results[0][i], i == 2 ? 1e-4 : 2e-2, std::to_string(i));
    }
  }
}

// Small terms are added to a large sum, where bf16 would lose them.
TEST(GroupedGemm, AccumulatesBf16InFp32) {
  const int64_t rows = 2048;
  const at::Tensor left = at::full({rows, 8}, 1.0 / 64).to(at::kBFloat16);
  const at::Tensor right = at::full({rows, 16}, 1.0 / 64).to(at::kBFloat16);
  at::Tensor sum = at::full({2, 8, 16}, 1024.0, at::kFloat);
  for (int i = 0; i < 4; ++i) {
    accumulate_grouped_weight_gradient(sum, left, right, counts_tensor({rows, 0}));
  }
  expect_identical(sum[0], at::full({8, 16}, 1026.0, at::kFloat));
  expect_identical(sum[1], at::full({8, 16}, 1024.0, at::kFloat));
}

// A loss must not hide a value that is not finite, and other rows must not see it.
TEST(GroupedGemm, InfinityAndNaNStayInTheirRows) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const int64_t k : {64, 33}) {
      const Counts counts{30, 10, 5};
      GroupedInputs in = grouped_inputs(counts, 70, k, dtype);
      in.weight = in.weight.abs() + 1;
      for (const int row : {3, 29, 33, 44}) {
        in.x[row] = std::numeric_limits<float>::infinity();
        in.grad_y[row] = std::numeric_limits<float>::infinity();
      }
      const at::Tensor y = grouped_gemm(in.x, counts_tensor(counts), in.weight, {});
      EXPECT_EQ(at::isfinite(y).sum().item<int64_t>(), 41 * 70);
      const at::Tensor grad_x =
          grouped_gemm_input_gradient(in.grad_y, counts_tensor(counts), in.weight);
      EXPECT_EQ(at::isfinite(grad_x).sum().item<int64_t>(), 41 * k);
    }
  }
}

at::Tensor linear_of(const Counts& counts, const std::vector<at::Tensor>& in) {
  return grouped_linear(in[0], counts_tensor(counts), in[1], in[2], {});
}

TEST(GroupedLinear, GradientsMatchFiniteDifferences) {
  const Counts counts{3, 0, 2, 30};
  expect_gradients_by_differences(
      [&](const auto& in) { return linear_of(counts, in); },
      {random_tensor({35, 5}, at::kDouble, 1), random_tensor({4, 3, 5}, at::kDouble, 2),
       random_tensor({4, 3}, at::kDouble, 3)});
}

TEST(GroupedLinear, MatchesUnfusedAndDoesNotDependOnThreads) {
  const Counts counts{3, 0, 2, 60};
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const bool with_bias : {true, false}) {
      expect_like_reference(
          [&](const auto& in) { return linear_of(counts, in); },
          in_fp64([&](const std::vector<at::Tensor>& in) {
            return unfused::grouped_gemm(in[0], counts_tensor(counts), in[1], in[2]);
          }),
          {random_tensor({65, 40}, dtype, 1), random_tensor({4, 30, 40}, dtype, 2) * 0.2,
           with_bias ? random_tensor({4, 30}, dtype, 3) : at::Tensor()},
          5 * tolerance(dtype), std::string(c10::toString(dtype)));
    }
  }
}

// Two micro-batches are in flight at once, as in a pipeline.
TEST(GroupedLinear, AccumulatesMicroBatchesIntoMainGrad) {
  const Counts counts{30, 0, 5};
  const at::Tensor weight = random_tensor({3, 9, 16}, at::kBFloat16, 1).requires_grad_();
  at::Tensor main_grad = at::ones({3, 9, 16});
  at::Tensor want = at::ones({3, 9, 16}, at::kDouble);
  std::vector<at::Tensor> outputs, cotangents;
  for (int i = 0; i < 2; ++i) {
    const at::Tensor x = random_tensor({35, 16}, at::kBFloat16, 10 + i);
    outputs.push_back(grouped_linear(x, counts_tensor(counts), weight, {}, main_grad));
    cotangents.push_back(random_tensor({35, 9}, at::kBFloat16, 20 + i));
    unfused::accumulate_grouped_weight_gradient(want, wide(cotangents[i]), wide(x),
                                                counts_tensor(counts));
  }
  for (int i = 0; i < 2; ++i) torch::autograd::backward({outputs[i]}, {cotangents[i]});
  EXPECT_FALSE(weight.grad().defined());
  expect_close(main_grad, want.to(at::kFloat), 1e-4);
}

TEST(GroupedGemm, RefusesBadArguments) {
  const at::Tensor x = at::zeros({4, 8}), weight = at::zeros({2, 3, 8});
  const at::Tensor counts = counts_tensor({1, 3});
  expect_error(
      [&] {
        grouped_gemm(x, counts, at::zeros({2, 3, 7}), {});
      },
      "Expected weight of shape [experts, n, k] with k = 8, but got [2, 3, 7]");
  expect_error([&] { grouped_gemm(x, counts, weight.to(at::kDouble), {}); }, "weight of dtype");
  expect_error(
      [&] {
        grouped_gemm(x, counts_tensor({1, 2}), weight, {});
      },
      "Expected counts that add up to 4 rows, but got 3");
  expect_error(
      [&] {
        grouped_gemm(x, counts_tensor({1, 2, 1}), weight, {});
      },
      "Expected counts of 2 experts, but got 3");
  expect_error([&] { grouped_gemm(x, counts.to(at::kInt), weight, {}); }, "contiguous int64");
  expect_error([&] { grouped_gemm(x, counts, weight, at::zeros({3})); },
               "Expected bias of shape [2, 3]");
  expect_error([&] { grouped_gemm_input_gradient(x, counts, weight); }, "with n = 8");
  at::Tensor sum = at::zeros({2, 8, 3});
  expect_error(
      [&] {
        accumulate_grouped_weight_gradient(sum, at::zeros({4, 3}), x, counts);
      },
      "Expected grad_weight of shape [2, 3, 8]");
  at::Tensor strided = at::zeros({2, 8, 3}).transpose(1, 2);
  expect_error(
      [&] {
        accumulate_grouped_weight_gradient(strided, at::zeros({4, 3}), x, counts);
      },
      "strided view");
}

}  // namespace
}  // namespace megatron::test
