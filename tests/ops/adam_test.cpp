#include "megatron/ops/adam.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

struct State {
  at::Tensor master, exp_avg, exp_avg_sq, copy;
};

State initial_state(int64_t count, at::ScalarType dtype, at::ScalarType copy_dtype,
                    bool with_copy) {
  return {random_tensor({count}, dtype, 1), at::zeros({count}, dtype), at::zeros({count}, dtype),
          with_copy ? at::zeros({count}, copy_dtype) : at::Tensor()};
}

TEST(Adam, MatchesUnfused) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const auto grad_dtype : {dtype, at::kBFloat16}) {
      for (const bool decoupled : {true, false}) {
        for (const int64_t count : {0, 5, 1000, 100003}) {
          for (const auto copy_dtype : {at::kBFloat16, at::kHalf, at::kFloat}) {
            State got = initial_state(count, dtype, copy_dtype, count != 5);
            State want = initial_state(count, dtype, copy_dtype, count != 5);
            for (int64_t step = 1; step <= 3; ++step) {
              const at::Tensor grad = random_tensor({count}, grad_dtype, 10 + step);
              const AdamArguments arguments{.lr = 1e-2,
                                            .beta1 = 0.9,
                                            .beta2 = 0.95,
                                            .eps = 1e-8,
                                            .weight_decay = 0.1,
                                            .decoupled = decoupled,
                                            .step = step,
                                            .grad_scale = 0.5};
              adam_step(got.master, got.exp_avg, got.exp_avg_sq, grad, got.copy, arguments);
              unfused::adam_step(want.master, want.exp_avg, want.exp_avg_sq, grad, want.copy,
                                 arguments);
            }
            const double bound = dtype == at::kDouble ? 1e-13 : 1e-6;
            expect_close(got.master, want.master, bound, "master");
            expect_close(got.exp_avg, want.exp_avg, bound, "exp_avg");
            expect_close(got.exp_avg_sq, want.exp_avg_sq, bound, "exp_avg_sq");
            if (got.copy.defined()) expect_identical(got.copy, got.master.to(copy_dtype), "copy");
          }
        }
      }
    }
  }
}

TEST(Adam, FirstStepMatchesHandCalculation) {
  State state{
      at::tensor({1.0}, at::kDouble), at::zeros({1}, at::kDouble), at::zeros({1}, at::kDouble), {}};
  // In the first step the bias corrections cancel: p (1 - lr wd) - lr g / (|g| + eps).
  const at::Tensor grad = at::tensor({-2.0}, at::kDouble);
  adam_step(state.master, state.exp_avg, state.exp_avg_sq, grad, {},
            {.lr = 0.1, .eps = 0.5, .weight_decay = 0.01});
  EXPECT_NEAR(state.master.item<double>(), 1.0 * (1 - 0.001) + 0.1 * 2.0 / 2.5, 1e-14);
  EXPECT_NEAR(state.exp_avg.item<double>(), -0.2, 1e-15);
  EXPECT_NEAR(state.exp_avg_sq.item<double>(), 0.004, 1e-15);
}

TEST(Adam, MatchesLibtorchFusedAdamW) {
  State got = initial_state(1001, at::kFloat, at::kFloat, false);
  State want = initial_state(1001, at::kFloat, at::kFloat, false);
  for (int64_t step = 1; step <= 4; ++step) {
    const at::Tensor grad = random_tensor({1001}, at::kFloat, step);
    adam_step(got.master, got.exp_avg, got.exp_avg_sq, grad, {},
              {.lr = 3e-3, .weight_decay = 0.1, .step = step});
    std::vector<at::Tensor> p{want.master}, g{grad}, m{want.exp_avg}, v{want.exp_avg_sq};
    std::vector<at::Tensor> steps{at::full({}, static_cast<double>(step), at::kFloat)};
    at::_fused_adamw_(p, g, m, v, {}, steps, 3e-3, 0.9, 0.999, 0.1, 1e-8, false, false);
  }
  expect_close(got.master, want.master, 2e-6);
}

TEST(Sgd, MatchesUnfusedAndDoesNotDependOnSharding) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const double momentum : {0.0, 0.9}) {
      const int64_t count = 70001;
      at::Tensor got = random_tensor({count}, dtype, 1), want = got.clone(), sharded = got.clone();
      at::Tensor got_buffer = momentum > 0 ? at::zeros({count}, dtype) : at::Tensor();
      at::Tensor want_buffer = momentum > 0 ? at::zeros({count}, dtype) : at::Tensor();
      at::Tensor sharded_buffer = momentum > 0 ? at::zeros({count}, dtype) : at::Tensor();
      at::Tensor copy = at::zeros({count}, at::kBFloat16);
      for (int step = 0; step < 3; ++step) {
        const at::Tensor grad = random_tensor({count}, dtype, 10 + step);
        const SgdArguments arguments{.lr = 0.1,
                                     .momentum = momentum,
                                     .weight_decay = 0.01,
                                     .first_step = step == 0,
                                     .grad_scale = 2};
        sgd_step(got, got_buffer, grad, copy, arguments);
        unfused::sgd_step(want, want_buffer, grad, {}, arguments);
        for (const auto& [first, size] : {std::pair<int64_t, int64_t>{0, 33}, {33, count - 33}}) {
          at::Tensor p = sharded.narrow(0, first, size);
          at::Tensor buffer = momentum > 0 ? sharded_buffer.narrow(0, first, size) : at::Tensor();
          sgd_step(p, buffer, grad.narrow(0, first, size), {}, arguments);
        }
      }
      expect_close(got, want, dtype == at::kDouble ? 1e-13 : 2e-6);
      expect_identical(sharded, got, "sharded");
      expect_identical(copy, got.to(at::kBFloat16), "copy");
    }
  }
}

TEST(SquaredNorm, IsAccurateAndDoesNotDependOnThreads) {
  const int threads = at::get_num_threads();
  for (const auto dtype : all_dtypes()) {
    for (const int64_t count : {0, 1, 31, 16384, 100003}) {
      const at::Tensor x = random_tensor({count}, dtype, 1);
      const double want = x.to(at::kDouble).square().sum().item<double>();
      at::set_num_threads(1);
      const double alone = squared_norm(x);
      at::set_num_threads(2);
      EXPECT_EQ(squared_norm(x), alone);
      at::set_num_threads(threads);
      EXPECT_NEAR(alone, want, 1e-12 * want);
    }
  }
  at::Tensor x = at::ones({50000});
  x[40000] = INFINITY;
  EXPECT_EQ(squared_norm(x), INFINITY);
  x[40000] = NAN;
  EXPECT_TRUE(std::isnan(squared_norm(x)));
}

TEST(Adam, RefusesBadArguments) {
  State state = initial_state(4, at::kFloat, at::kFloat, false);
  const at::Tensor grad = at::zeros({4});
  expect_error(
      [&] { adam_step(state.master, state.exp_avg, state.exp_avg_sq, at::zeros({3}), {}, {}); },
      "Expected grad as 4 contiguous elements, but got 3");
  at::Tensor strided = at::zeros({8}).slice(0, 0, 8, 2);
  expect_error([&] { adam_step(strided, state.exp_avg, state.exp_avg_sq, grad, {}, {}); },
               "strided view");
  at::Tensor half = at::zeros({4}, at::kBFloat16);
  expect_error([&] { adam_step(half, state.exp_avg, state.exp_avg_sq, grad, {}, {}); },
               "Expected master of dtype fp32 or fp64");
  expect_error([&] { adam_step(state.master, half, state.exp_avg_sq, grad, {}, {}); }, "exp_avg");
  expect_error(
      [&] { adam_step(state.master, state.exp_avg, state.exp_avg_sq, grad, {}, {.step = 0}); },
      "step of at least 1");
  at::Tensor none;
  expect_error([&] { sgd_step(state.master, none, grad, {}, {.momentum = 0.9}); },
               "Expected a momentum_buffer");
  expect_error([&] { squared_norm(strided); }, "contiguous");
}

}  // namespace
}  // namespace megatron::test
