#include "megatron/tensor_parallel/vocab_parallel_cross_entropy.h"

#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

// The loss and the logits' gradient of the whole, by ATen's own operators in fp64.
std::pair<at::Tensor, at::Tensor> expected_loss_and_gradient(const at::Tensor& logits,
                                                             const at::Tensor& targets,
                                                             const at::Tensor& weights) {
  const at::Tensor x = logits.to(at::kDouble).set_requires_grad(true);
  const at::Tensor loss = x.logsumexp(-1) - x.gather(-1, targets.unsqueeze(-1)).squeeze(-1);
  torch::autograd::backward({(loss * weights).sum()}, {});
  return {loss.detach(), x.grad()};
}

struct Setting {
  int tp;
  at::ScalarType dtype;
  int64_t vocab_size;  // of 24 columns
  double tolerance;
};

class CrossEntropy : public testing::TestWithParam<Setting> {};

TEST_P(CrossEntropy, EqualsTheWholeSoftmaxWithoutThePadding) {
  const Setting setting = GetParam();
  const int64_t columns = 24;
  const at::Tensor logits = (at::sin(at::arange(5 * 3 * columns, at::kDouble)) * 8)
                                .view({5, 3, columns})
                                .to(setting.dtype);
  const at::Tensor targets = (at::arange(15, at::kLong) * 7 % setting.vocab_size).view({5, 3});
  const at::Tensor weights = at::linspace(0.1, 1.0, 15, at::kDouble).view({5, 3});
  const auto [loss, gradient] =
      expected_loss_and_gradient(logits.narrow(2, 0, setting.vocab_size), targets, weights);
  run_thread_world(setting.tp, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.tp = setting.tp});
    const int64_t part = columns / setting.tp, start = part * rank.rank;
    const at::Tensor mine = logits.narrow(2, start, part).contiguous().set_requires_grad(true);
    const at::Tensor ours =
        vocab_parallel_cross_entropy(mine, targets, setting.vocab_size, *groups.tp);
    EXPECT_LE((ours.to(at::kDouble) - loss).abs().max().item<double>(), setting.tolerance);
    torch::autograd::backward({(ours * weights).sum()}, {});
    const at::Tensor grad = mine.grad().to(at::kDouble);
    const int64_t valid = std::clamp<int64_t>(setting.vocab_size - start, 0, part);
    const double scale = setting.dtype == at::kBFloat16 ? 1e-2 : setting.tolerance;
    if (valid > 0) {
      EXPECT_LE(
          (grad.narrow(2, 0, valid) - gradient.narrow(2, start, valid)).abs().max().item<double>(),
          scale);
    }
    if (valid < part) {
      EXPECT_EQ(grad.narrow(2, valid, part - valid).abs().max().item<double>(), 0.0);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Settings, CrossEntropy,
    testing::Values(Setting{1, at::kFloat, 24, 1e-5}, Setting{1, at::kFloat, 19, 1e-5},
                    Setting{2, at::kFloat, 24, 1e-5}, Setting{2, at::kDouble, 19, 1e-12},
                    // The last rank holds nothing but padding.
                    Setting{4, at::kFloat, 17, 1e-5}, Setting{2, at::kBFloat16, 20, 1e-4}));

TEST(VocabParallelCrossEntropy, LabelOutsideTheVocabularyIsAnError) {
  const auto groups = ProcessGroupCollection::single_rank();
  const at::Tensor logits = at::zeros({2, 8});
  EXPECT_THAT(
      [&] {
        vocab_parallel_cross_entropy(logits, at::tensor({1, 7}, at::kLong), 7, *groups.tp);
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("[0, 7), but got 7")));
  EXPECT_THROW(vocab_parallel_cross_entropy(logits, at::tensor({-1, 0}, at::kLong), 7, *groups.tp),
               Error);
  EXPECT_THROW(vocab_parallel_cross_entropy(logits, at::zeros({3}, at::kLong), 7, *groups.tp),
               Error);
}

}  // namespace
}  // namespace megatron
