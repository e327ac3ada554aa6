#include "megatron/ops/matmul/matmul_accumulate.h"

#include "megatron/ops/matmul/block_gemm.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

// Row-major and column-major operands, at sizes around those of row blocks, panels and depth
// blocks.
TEST(MatmulAccumulate, MatchesFp64InEveryLayout) {
  for (const auto& [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{64, 64, 512},
                                {130, 70, 1030},
                                {3, 5, 2},
                                {17, 200, 33},
                                {1, 1, 1},
                                {1, 9, 8},
                                {9, 1, 8},
                                {65, 64, 514},
                                {0, 4, 6},
                                {4, 0, 6},
                                {4, 6, 0}}) {
    for (const auto dtype : all_dtypes()) {
      for (const auto& [left_transposed, right_transposed] :
           {std::pair{false, false}, {false, true}, {true, false}, {true, true}}) {
        const at::Tensor left =
            left_transposed ? random_tensor({k, m}, dtype, 1).t() : random_tensor({m, k}, dtype, 1);
        const at::Tensor right = right_transposed ? random_tensor({n, k}, dtype, 2).t()
                                                  : random_tensor({k, n}, dtype, 2);
        const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
        at::Tensor sum = random_tensor({m, n}, wide, 3);
        const at::Tensor want =
            sum.to(at::kDouble) + at::mm(left.to(at::kDouble), right.to(at::kDouble));
        matmul_accumulate(sum, left, right);
        const bool half = c10::elementSize(dtype) == 2;
        expect_close(sum.to(at::kDouble), want, half ? 0.5 : 1e-4);
      }
    }
  }
}

// Small terms are added to a large sum, where bf16 would lose them.
TEST(MatmulAccumulate, AccumulatesBf16InFp32) {
  const int64_t k = 2048;
  const at::Tensor left = at::full({8, k}, 1.0 / 64).to(at::kBFloat16);
  const at::Tensor right = at::full({k, 16}, 1.0 / 64).to(at::kBFloat16);
  at::Tensor sum = at::full({8, 16}, 1024.0, at::kFloat);
  for (int i = 0; i < 4; ++i) matmul_accumulate(sum, left, right);
  expect_identical(sum, at::full({8, 16}, 1026.0, at::kFloat));
}

TEST(MatmulAccumulate, DoesNotRoundToBf16) {
  if (!has_fast_bf16_gemm()) {
    GTEST_SKIP() << "without bf16 instructions, libtorch rounds the product";
  }
  const at::Tensor a = random_tensor({70, 1000}, at::kBFloat16, 1);
  const at::Tensor b = random_tensor({1000, 90}, at::kBFloat16, 2);
  at::Tensor exact = at::zeros({70, 90});
  matmul_accumulate(exact, a, b);
  expect_close(exact, at::mm(a.to(at::kFloat), b.to(at::kFloat)), 2e-5);
}

TEST(MatmulAccumulate, DoesNotDependOnThreads) {
  const at::Tensor left = random_tensor({700, 300}, at::kBFloat16, 1).t();
  const at::Tensor right = random_tensor({700, 200}, at::kBFloat16, 2);
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> sums;
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    sums.push_back(at::ones({300, 200}));
    matmul_accumulate(sums.back(), left, right);
  }
  at::set_num_threads(threads);
  expect_identical(sums[0], sums[1]);
}

TEST(MatmulAccumulate, RefusesBadArguments) {
  at::Tensor sum = at::zeros({3, 4});
  expect_error([&] { matmul_accumulate(sum, at::zeros({3, 5}), at::zeros({6, 4})); }, "[m, k]");
  expect_error(
      [&] {
        matmul_accumulate(sum, at::zeros({2, 5}), at::zeros({5, 4}));
      },
      "sum of shape [2");
  expect_error(
      [&] {
        matmul_accumulate(sum, at::zeros({3, 5}, at::kHalf), at::zeros({5, 4}));
      },
      "dtype");
}

}  // namespace
}  // namespace megatron::test
