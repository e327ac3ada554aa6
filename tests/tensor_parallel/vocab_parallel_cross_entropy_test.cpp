#include "megatron/tensor_parallel/vocab_parallel_cross_entropy.h"

#include <ATen/ATen.h>

#include "tests/ops/op_test.h"
#include "tests/ops/peak_memory.h"
#include "tests/parallel/thread_world.h"
#include "tests/tensor_parallel/counting_group.h"

namespace megatron {
namespace {

using test::expect_close;
using test::expect_error;
using test::expect_identical;

using Loss = at::Tensor (*)(const at::Tensor&, const at::Tensor&, int64_t, const ProcessGroup&,
                            double);

// Loss and gradient of global logits, composed of ATen operators in fp64.
std::pair<at::Tensor, at::Tensor> expected_loss_and_gradient(const at::Tensor& logits,
                                                             const at::Tensor& targets,
                                                             const at::Tensor& weights,
                                                             double label_smoothing) {
  const at::Tensor x = logits.to(at::kDouble).clone().set_requires_grad(true);
  const at::Tensor log_p = at::log_softmax(x, -1);
  const double k = static_cast<double>(logits.size(-1));
  const double smoothing = label_smoothing == 0 ? 0 : label_smoothing * k / (k - 1);
  const at::Tensor loss = -(1 - smoothing) * log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1) -
                          smoothing * log_p.mean(-1);
  torch::autograd::backward({(loss * weights).sum()}, {});
  return {loss.detach(), x.grad()};
}

struct Setting {
  int tp;
  at::ScalarType dtype;
  int64_t vocab_size;  // of 24 columns
  double label_smoothing;
  double tolerance;
};

class CrossEntropyLayouts : public testing::TestWithParam<Setting> {};

TEST_P(CrossEntropyLayouts, MatchTheGlobalSoftmaxWithoutPadding) {
  const Setting setting = GetParam();
  const int64_t columns = 24;
  const at::Tensor logits = (at::sin(at::arange(5 * 3 * columns, at::kDouble)) * 8)
                                .view({5, 3, columns})
                                .to(setting.dtype);
  const at::Tensor targets = (at::arange(15, at::kLong) * 7 % setting.vocab_size).view({5, 3});
  const at::Tensor weights = at::linspace(0.1, 1.0, 15, at::kDouble).view({5, 3});
  const auto [loss, gradient] = expected_loss_and_gradient(
      logits.narrow(2, 0, setting.vocab_size), targets, weights, setting.label_smoothing);
  run_thread_world(setting.tp, [&, &loss = loss, &gradient = gradient](RankContext& rank) {
    const auto groups = rank.make_groups({.tp = setting.tp});
    const int64_t columns_p = columns / setting.tp, start = columns_p * rank.rank;
    const int64_t valid = std::clamp<int64_t>(setting.vocab_size - start, 0, columns_p);
    at::Tensor first_loss, first_gradient;
    for (const Loss function :
         {&vocab_parallel_cross_entropy, &fused_vocab_parallel_cross_entropy}) {
      const at::Tensor local =
          logits.narrow(2, start, columns_p).contiguous().set_requires_grad(true);
      const at::Tensor local_loss =
          function(local * 1, targets, setting.vocab_size, *groups.tp, setting.label_smoothing);
      EXPECT_EQ(local_loss.scalar_type(), setting.dtype == at::kDouble ? at::kDouble : at::kFloat);
      expect_close(local_loss.to(at::kDouble), loss, setting.tolerance);
      torch::autograd::backward({(local_loss * weights).sum()}, {});
      EXPECT_EQ(local.grad().scalar_type(), setting.dtype);
      const at::Tensor grad = local.grad().to(at::kDouble);
      const double bound = c10::elementSize(setting.dtype) == 2 ? 5e-3 : setting.tolerance;
      expect_close(grad.narrow(2, 0, valid),
                   gradient.narrow(2, std::min(start, gradient.size(2)), valid), bound);
      EXPECT_TRUE(grad.narrow(2, valid, columns_p - valid).eq(0).all().item<bool>());
      if (first_loss.defined()) {
        expect_identical(local_loss, first_loss, "fused loss");
        expect_identical(local.grad(), first_gradient, "fused gradient");
      }
      first_loss = local_loss;
      first_gradient = local.grad();
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Settings, CrossEntropyLayouts,
    testing::Values(Setting{1, at::kFloat, 24, 0, 1e-5}, Setting{1, at::kFloat, 19, 0, 1e-5},
                    Setting{2, at::kFloat, 24, 0, 1e-5}, Setting{2, at::kDouble, 19, 0, 1e-12},
                    // The last rank holds only padding.
                    Setting{4, at::kFloat, 17, 0, 1e-5}, Setting{2, at::kBFloat16, 20, 0, 1e-4},
                    Setting{1, at::kDouble, 19, 0.1, 1e-12},
                    Setting{2, at::kDouble, 19, 0.1, 1e-12},
                    Setting{4, at::kDouble, 17, 0.3, 1e-12}, Setting{2, at::kFloat, 24, 0.1, 1e-5},
                    Setting{1, at::kHalf, 19, 0, 1e-5}, Setting{2, at::kHalf, 19, 0.1, 1e-5}));

TEST(VocabParallelCrossEntropy, GradientsMatchFiniteDifferences) {
  const auto groups = ProcessGroupCollection::single_rank();
  const at::Tensor targets = at::tensor({0, 6, 3}, at::kLong);
  for (const Loss loss : {&vocab_parallel_cross_entropy, &fused_vocab_parallel_cross_entropy}) {
    for (const double smoothing : {0.0, 0.2}) {
      test::expect_gradients_by_differences(
          [&](const std::vector<at::Tensor>& in) {
            return loss(in[0] * 1, targets, 7, *groups.tp, smoothing);
          },
          {test::random_tensor({3, 8}, at::kDouble, 1)});
    }
  }
}

TEST(VocabParallelCrossEntropy, FusionSavesCollectives) {
  const at::Tensor logits = test::random_tensor({3, 8}, at::kFloat, 1);
  const at::Tensor targets = at::tensor({0, 6, 3}, at::kLong);
  const auto count = [&](Loss loss, double smoothing) {
    CountingGroup tp(2);
    loss(logits, targets, 14, *tp.group, smoothing);
    return tp.all_reduces();
  };
  EXPECT_EQ(count(&vocab_parallel_cross_entropy, 0), 3);
  EXPECT_EQ(count(&vocab_parallel_cross_entropy, 0.1), 4);
  EXPECT_EQ(count(&fused_vocab_parallel_cross_entropy, 0), 2);
  EXPECT_EQ(count(&fused_vocab_parallel_cross_entropy, 0.1), 2);
}

TEST(VocabParallelCrossEntropy, FusionAllocatesNoSecondTensorOfLogits) {
  const auto groups = ProcessGroupCollection::single_rank();
  const at::Tensor targets = at::zeros({256}, at::kLong);
  const at::Tensor leaf = test::random_tensor({256, 4096}, at::kFloat, 1).requires_grad_();
  const auto peak = [&](Loss function) {
    const at::Tensor logits = leaf.view({256, 4096});
    return test::peak_bytes([&] {
      torch::autograd::grad({function(logits, targets, 4096, *groups.tp, 0).sum()}, {leaf});
    });
  };
  const auto logit_bytes = static_cast<int64_t>(leaf.nbytes());
  EXPECT_GE(peak(&vocab_parallel_cross_entropy), logit_bytes);
  const at::Tensor values = leaf.detach().clone();
  EXPECT_LT(peak(&fused_vocab_parallel_cross_entropy), logit_bytes / 50);
}

// Backward overwrites the logits: an operator that saved them throws instead of reading the
// gradient.
TEST(VocabParallelCrossEntropy, AutogradDetectsOverwrittenLogits) {
  const auto groups = ProcessGroupCollection::single_rank();
  const at::Tensor targets = at::tensor({0, 6, 3}, at::kLong);
  const at::Tensor leaf = test::random_tensor({3, 8}, at::kFloat, 1).requires_grad_();
  const at::Tensor logits = leaf.exp();  // exp saves its result for backward
  const at::Tensor loss = fused_vocab_parallel_cross_entropy(logits, targets, 8, *groups.tp);
  EXPECT_ANY_THROW(torch::autograd::backward({loss.sum()}, {}));

  const at::Tensor scaled = leaf * 2;
  const at::Tensor twice = fused_vocab_parallel_cross_entropy(scaled, targets, 8, *groups.tp).sum();
  torch::autograd::backward({twice}, {}, /*retain_graph=*/true);
  EXPECT_ANY_THROW(torch::autograd::backward({twice}, {}));

  // A leaf is not overwritten.
  const at::Tensor before = leaf.detach().clone();
  torch::autograd::backward(
      {fused_vocab_parallel_cross_entropy(leaf, targets, 8, *groups.tp).sum()}, {});
  expect_identical(leaf.detach(), before);
}

TEST(VocabParallelCrossEntropy, RefusesBadArguments) {
  const auto groups = ProcessGroupCollection::single_rank();
  const at::Tensor logits = at::zeros({2, 8});
  const auto loss = [&](const at::Tensor& targets, int64_t vocab_size, double smoothing = 0) {
    vocab_parallel_cross_entropy(logits, targets, vocab_size, *groups.tp, smoothing);
  };
  expect_error([&] { loss(at::tensor({1, 7}, at::kLong), 7); }, "[0, 7), but got 7");
  expect_error([&] { loss(at::tensor({-1, 0}, at::kLong), 7); }, "[0, 7), but got -1");
  expect_error([&] { loss(at::zeros({3}, at::kLong), 7); }, "targets of shape [2], but got [3]");
  expect_error([&] { loss(at::zeros({2}, at::kInt), 7); }, "int64");
  expect_error([&] { loss(at::zeros({2}, at::kLong), 9); }, "1 to 8 ids");
  expect_error([&] { loss(at::zeros({2}, at::kLong), 7, 1.5); }, "below 1, but got 1.5");
  expect_error([&] { loss(at::zeros({2}, at::kLong), 7, -0.1); }, "at least 0");
}

}  // namespace
}  // namespace megatron
