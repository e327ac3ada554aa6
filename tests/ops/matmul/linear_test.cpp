#include "megatron/ops/matmul/linear.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

at::Tensor unfused_linear(const std::vector<at::Tensor>& in) {
  const at::Tensor y = at::matmul(in[0], in[1].t());
  return in[2].defined() ? y + in[2] : y;
}

at::Tensor fused_linear(const std::vector<at::Tensor>& in) {
  return linear(in[0], in[1], in[2], {});
}

TEST(Linear, MatchesUnfused) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const bool with_bias : {true, false}) {
      const at::Tensor bias = with_bias ? random_tensor({17}, dtype, 3) : at::Tensor();
      for (const auto& shape : {std::vector<int64_t>{6, 3, 40}, {5, 40}, {40}, {0, 2, 40}}) {
        const auto inputs = std::vector<at::Tensor>{random_tensor(shape, dtype, 1),
                                                    random_tensor({17, 40}, dtype, 2), bias};
        const auto got = run(fused_linear, inputs), want = run(unfused_linear, inputs);
        const double bound = dtype == at::kBFloat16 ? 5e-2 : 10 * tolerance(dtype);
        expect_close(got.value, want.value, bound);
        for (size_t i = 0; i < want.gradients.size(); ++i) {
          expect_close(got.gradients[i], want.gradients[i], bound, std::to_string(i));
        }
      }
    }
  }
}

TEST(Linear, GradientsMatchFiniteDifferences) {
  expect_gradients_by_differences(
      fused_linear, {random_tensor({3, 2, 5}, at::kDouble, 1),
                     random_tensor({4, 5}, at::kDouble, 2), random_tensor({4}, at::kDouble, 3)});
}

// Two micro-batches are in flight at once, as in a pipeline.
TEST(Linear, AccumulatesMicroBatchesIntoMainGrad) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor weight = random_tensor({9, 16}, dtype, 1).requires_grad_();
    at::Tensor main_grad = at::ones({9, 16}, wide);
    at::Tensor want = at::ones({9, 16}, at::kDouble);
    std::vector<at::Tensor> outputs, cotangents;
    for (int i = 0; i < 2; ++i) {
      const at::Tensor x = random_tensor({7, 2, 16}, dtype, 10 + i);
      outputs.push_back(linear(x, weight, {}, main_grad));
      cotangents.push_back(random_tensor({7, 2, 9}, dtype, 20 + i));
      want += at::matmul(cotangents[i].reshape({14, 9}).t().to(at::kDouble),
                         x.reshape({14, 16}).to(at::kDouble));
    }
    for (int i = 0; i < 2; ++i) torch::autograd::backward({outputs[i]}, {cotangents[i]});
    EXPECT_FALSE(weight.grad().defined());
    expect_close(main_grad, want.to(wide), dtype == at::kBFloat16 ? 4e-2 : 1e-5);
  }
}

TEST(Linear, FrozenWeightDoesNotChangeMainGrad) {
  const at::Tensor weight = random_tensor({3, 4}, at::kFloat, 1);
  const at::Tensor x = random_tensor({2, 4}, at::kFloat, 2).requires_grad_();
  at::Tensor main_grad = at::zeros({3, 4});
  torch::autograd::backward({linear(x, weight, {}, main_grad).sum()});
  EXPECT_TRUE(main_grad.eq(0).all().item<bool>());
  expect_close(x.grad(), weight.sum(0).expand({2, 4}), 1e-6);
}

TEST(Linear, RefusesBadArguments) {
  const at::Tensor x = at::zeros({2, 4}), weight = at::zeros({3, 4});
  expect_error([&] { linear(x, at::zeros({3, 5}), {}, {}); }, "Expected weight of shape [out, 4]");
  expect_error([&] { linear(x, weight.to(at::kDouble), {}, {}); }, "Expected weight of dtype");
  expect_error([&] { linear(x, weight, at::zeros({4}), {}); }, "Expected bias of shape [3]");
  expect_error([&] { linear(x, weight, {}, at::zeros({4, 3})); }, "weight_main_grad of shape");
  expect_error([&] { linear(x, weight, {}, at::zeros({4, 3}).t()); }, "strided view");
}

}  // namespace
}  // namespace megatron::test
