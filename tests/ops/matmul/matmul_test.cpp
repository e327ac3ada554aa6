#include "megatron/ops/matmul/matmul.h"

#include <limits>

#include "megatron/ops/matmul/block_gemm.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

// The error of rounding the result to the dtype, and of fp32 sums.
double matmul_bound(at::ScalarType dtype, const at::Tensor& want) {
  const double largest = want.numel() == 0 ? 0 : want.abs().max().item<double>();
  if (dtype == at::kBFloat16) return largest * 0.004 + 1e-4;
  return dtype == at::kHalf ? largest * 0.001 + 1e-3 : 1e-4;
}

// Row-major and column-major operands, with and without bias, at sizes around those of row blocks,
// panels and depth blocks.
TEST(Matmul, MatchesFp64InEveryLayout) {
  for (const auto& [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{64, 64, 64},
                                {130, 70, 1030},
                                {1100, 17, 34},
                                {65, 200, 2050},
                                {64, 16, 33},
                                {128, 129, 2},
                                {15, 48, 64},
                                {16, 48, 64},
                                {17, 48, 64},
                                {3, 5, 2},
                                {1, 1, 1},
                                {0, 4, 6},
                                {64, 0, 6},
                                {64, 6, 0}}) {
    for (const auto dtype : all_dtypes()) {
      for (const auto& [left_transposed, right_transposed] :
           {std::pair{false, false}, {false, true}, {true, false}, {true, true}}) {
        const at::Tensor left =
            left_transposed ? random_tensor({k, m}, dtype, 1).t() : random_tensor({m, k}, dtype, 1);
        const at::Tensor right = right_transposed ? random_tensor({n, k}, dtype, 2).t()
                                                  : random_tensor({k, n}, dtype, 2);
        const at::Tensor bias = random_tensor({n}, dtype, 3);
        const at::Tensor want = at::mm(left.to(at::kDouble), right.to(at::kDouble));
        const double bound = matmul_bound(dtype, want);
        expect_close(matmul(left, right, {}).to(at::kDouble), want, bound);
        expect_close(matmul(left, right, bias).to(at::kDouble), want + bias.to(at::kDouble), bound);
      }
    }
  }
}

// Slices of wider matrices: elements outside the slice are not written.
TEST(Matmul, AcceptsStridedRows) {
  for (const bool transposed : {false, true}) {
    const at::Tensor left = random_tensor({100, 300}, at::kBFloat16, 1).narrow(1, 20, 200);
    const at::Tensor wide = random_tensor({260, 260}, at::kBFloat16, 2);
    const at::Tensor right = transposed ? wide.narrow(0, 3, 90).narrow(1, 7, 200).t()
                                        : wide.narrow(0, 3, 200).narrow(1, 7, 90);
    at::Tensor all = at::full({100, 128}, 7.0, at::kBFloat16);
    matmul_out(all.narrow(1, 10, 90), left, right, {});
    const at::Tensor want = at::mm(left.to(at::kDouble), right.to(at::kDouble));
    expect_close(all.narrow(1, 10, 90).to(at::kDouble), want, matmul_bound(at::kBFloat16, want));
    expect_identical(all.narrow(1, 0, 10), at::full({100, 10}, 7.0, at::kBFloat16));
    expect_identical(all.narrow(1, 100, 28), at::full({100, 28}, 7.0, at::kBFloat16));
  }
}

// A loss must not hide a value that is not finite.
TEST(Matmul, InfinityAndNaNStayInTheirRows) {
  at::Tensor left = random_tensor({40, 128}, at::kBFloat16, 1);
  const at::Tensor right = random_tensor({70, 128}, at::kBFloat16, 2).abs().add(1).t();
  left[3][5] = std::numeric_limits<float>::infinity();
  left[7][9] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor out = matmul(left, right, {}).to(at::kFloat);
  EXPECT_TRUE(at::isposinf(out[3]).all().item<bool>());
  EXPECT_TRUE(at::isnan(out[7]).all().item<bool>());
  EXPECT_EQ(at::isfinite(out).sum().item<int64_t>(), 38 * 70);
}

TEST(Matmul, DoesNotDependOnThreads) {
  const at::Tensor left = random_tensor({700, 1300}, at::kBFloat16, 1);
  const at::Tensor right = random_tensor({130, 1300}, at::kBFloat16, 2).t();
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    results.push_back(matmul(left, right, {}));
  }
  at::set_num_threads(threads);
  expect_identical(results[0], results[1]);
  expect_identical(results[0], results[2]);
}

// A row gives the same result in any sequence shard or micro-batch.
TEST(Matmul, RowsDoNotDependOnOtherRows) {
  if (!has_fast_bf16_gemm()) {
    GTEST_SKIP() << "without bf16 instructions, matmul is libtorch's";
  }
  const at::Tensor left = random_tensor({512, 600}, at::kBFloat16, 1);
  const at::Tensor right = random_tensor({600, 96}, at::kBFloat16, 2);
  const at::Tensor all = matmul(left, right, {});
  expect_identical(matmul(left.narrow(0, 0, 100), right, {}), all.narrow(0, 0, 100));
  expect_identical(matmul(left.narrow(0, 100, 412), right, {}), all.narrow(0, 100, 412));
}

TEST(Matmul, RefusesBadArguments) {
  expect_error([&] { matmul(at::zeros({3, 5}), at::zeros({6, 4}), {}); }, "[m, k]");
  expect_error(
      [&] {
        matmul(at::zeros({3, 5}), at::zeros({5, 4}), at::zeros({3}));
      },
      "bias of shape [4]");
  expect_error([&] { matmul(at::zeros({3, 5}, at::kHalf), at::zeros({5, 4}), {}); }, "dtype");
  expect_error(
      [&] {
        matmul_out(at::zeros({3, 3}), at::zeros({3, 5}), at::zeros({5, 4}), {});
      },
      "out of shape [3, 4]");
}

}  // namespace
}  // namespace megatron::test
