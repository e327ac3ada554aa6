#include "megatron/ops/loss/attached_loss.h"

#include <ATen/ATen.h>

#include "tests/ops/op_test.h"

namespace megatron {
namespace {

TEST(AttachedLoss, DoesNotChangeTheTensorOrItsGradient) {
  const at::Tensor x = test::random_tensor({3, 2}, at::kFloat, 1).requires_grad_();
  const at::Tensor loss = test::random_tensor({4}, at::kDouble, 2).requires_grad_();
  const at::Tensor cotangent = test::random_tensor({3, 2}, at::kFloat, 3);
  const at::Tensor attached = attach_loss(x, loss, 0.25);
  test::expect_identical(attached.detach(), x.detach());
  torch::autograd::backward({attached}, {cotangent});
  test::expect_identical(x.grad(), cotangent);
  test::expect_identical(loss.grad(), at::full({4}, 0.25, at::kDouble));
}

// Backward from a scalar gives the gradient of the scalar plus scale times each attached loss, also
// if all are functions of the same tensor and if several losses are attached.
TEST(AttachedLoss, GradientMatchesFiniteDifferencesOfTheSum) {
  const at::Tensor cotangent = test::random_tensor({2, 3}, at::kDouble, 4);
  const auto first = [](const at::Tensor& x) { return (x * x).sum(); };
  const auto second = [](const at::Tensor& x) { return x.exp(); };
  const auto total = [&](const at::Tensor& x) {
    return ((x.sin() * cotangent).sum() + 0.3 * first(x) + 0.7 * second(x).sum()).item<double>();
  };
  const at::Tensor x = test::random_tensor({2, 3}, at::kDouble, 5).requires_grad_();
  const at::Tensor attached = attach_loss(attach_loss(x.sin(), first(x), 0.3), second(x), 0.7);
  torch::autograd::backward({(attached * cotangent).sum()}, {});

  at::Tensor moved = x.detach().clone(), numeric = at::empty_like(moved);
  constexpr double step = 1e-5;
  for (int64_t i = 0; i < moved.numel(); ++i) {
    double* element = moved.mutable_data_ptr<double>() + i;
    const double kept = *element;
    *element = kept + step;
    const double above = total(moved);
    *element = kept - step;
    const double below = total(moved);
    *element = kept;
    numeric.mutable_data_ptr<double>()[i] = (above - below) / (2 * step);
  }
  test::expect_close(x.grad(), numeric, 1e-8);
}

}  // namespace
}  // namespace megatron
