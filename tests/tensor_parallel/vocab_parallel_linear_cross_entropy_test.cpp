#include "megatron/tensor_parallel/vocab_parallel_linear_cross_entropy.h"

#include <ATen/ATen.h>

#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/vocab_parallel_cross_entropy.h"

#include "tests/ops/op_test.h"
#include "tests/ops/peak_memory.h"
#include "tests/parallel/thread_world.h"
#include "tests/tensor_parallel/counting_group.h"

namespace megatron {
namespace {

using test::expect_close;
using test::expect_error;

constexpr int64_t kSequence = 8, kBatch = 3, kHidden = 10, kColumns = 24;

struct GlobalInputs {
  at::Tensor hidden, weight, targets, grad_loss;
};

GlobalInputs global_inputs(at::ScalarType dtype, int64_t vocab_size) {
  at::Tensor grad_loss = test::random_tensor({kSequence, kBatch}, at::kDouble, 3);
  grad_loss[2][1] = 0;
  return {test::random_tensor({kSequence, kBatch, kHidden}, dtype, 1),
          test::random_tensor({kColumns, kHidden}, dtype, 2),
          (at::arange(kSequence * kBatch, at::kLong) * 5 % vocab_size).view({kSequence, kBatch}),
          grad_loss};
}

struct ExpectedLoss {
  at::Tensor loss, grad_hidden, grad_weight;
};

// The unfused composition, in fp64.
ExpectedLoss expected_loss(const GlobalInputs& in, int64_t vocab_size, double label_smoothing,
                           double logit_scale) {
  const at::Tensor hidden = in.hidden.to(at::kDouble).clone().set_requires_grad(true);
  const at::Tensor weight = in.weight.to(at::kDouble).clone().set_requires_grad(true);
  const at::Tensor logits = at::matmul(hidden, weight.t()).narrow(2, 0, vocab_size) * logit_scale;
  const at::Tensor log_p = at::log_softmax(logits, -1);
  const double k = static_cast<double>(vocab_size);
  const double smoothing = label_smoothing * k / (k - 1);
  const at::Tensor loss =
      -(1 - smoothing) * log_p.gather(-1, in.targets.unsqueeze(-1)).squeeze(-1) -
      smoothing * log_p.mean(-1);
  torch::autograd::backward({loss}, {in.grad_loss});
  return {loss.detach(), hidden.grad(), weight.grad()};
}

struct LinearLossSetting {
  int tp;
  bool sequence_parallel;
  at::ScalarType dtype;
  int64_t vocab_size;  // of kColumns
  double label_smoothing;
  double logit_scale;
  int64_t chunk_columns;
  bool main_grad;
  double tolerance;
};

class LinearCrossEntropyLayouts : public testing::TestWithParam<LinearLossSetting> {};

TEST_P(LinearCrossEntropyLayouts, MatchTheUnfusedComposition) {
  const LinearLossSetting setting = GetParam();
  const GlobalInputs in = global_inputs(setting.dtype, setting.vocab_size);
  const ExpectedLoss want =
      expected_loss(in, setting.vocab_size, setting.label_smoothing, setting.logit_scale);
  run_thread_world(setting.tp, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.tp = setting.tp});
    const auto wide = setting.dtype == at::kDouble ? at::kDouble : at::kFloat;
    const int64_t columns_p = kColumns / setting.tp;
    const auto weight = std::make_shared<Parameter>(
        std::vector<int64_t>{columns_p, kHidden}, at::TensorOptions().dtype(setting.dtype),
        TensorParallelSharding{0, 1, rank.rank, setting.tp}, Initialization::constant(0));
    {
      const at::NoGradGuard no_grad;
      weight->data.copy_(weight->local_part(in.weight));
    }
    if (setting.main_grad) weight->main_grad = at::ones({columns_p, kHidden}, wide);
    const int64_t rows = setting.sequence_parallel ? kSequence / setting.tp : kSequence;
    const int64_t first = setting.sequence_parallel ? rows * rank.rank : 0;
    const at::Tensor hidden = in.hidden.narrow(0, first, rows).contiguous().set_requires_grad(true);
    const at::Tensor loss = vocab_parallel_linear_cross_entropy(
        hidden, weight, in.targets, setting.vocab_size, *groups.tp,
        {.sequence_parallel = setting.sequence_parallel,
         .label_smoothing = setting.label_smoothing,
         .logit_scale = setting.logit_scale,
         .chunk_columns = setting.chunk_columns});
    EXPECT_EQ(loss.scalar_type(), wide);
    expect_close(loss.to(at::kDouble), want.loss, setting.tolerance, "loss");
    torch::autograd::backward({loss}, {in.grad_loss.to(wide)});
    EXPECT_EQ(hidden.grad().scalar_type(), setting.dtype);
    expect_close(hidden.grad().to(at::kDouble), want.grad_hidden.narrow(0, first, rows),
                 setting.tolerance, "hidden");
    at::Tensor grad_weight = weight->data.grad();
    EXPECT_EQ(grad_weight.defined(), !setting.main_grad);
    if (setting.main_grad) grad_weight = weight->main_grad - 1;
    expect_close(grad_weight.to(at::kDouble), weight->local_part(want.grad_weight),
                 setting.tolerance, "weight");
  });
}

INSTANTIATE_TEST_SUITE_P(
    Settings, LinearCrossEntropyLayouts,
    testing::Values(LinearLossSetting{1, false, at::kDouble, 24, 0, 1, 0, false, 1e-10},
                    LinearLossSetting{1, false, at::kDouble, 19, 0.1, 0.5, 5, true, 1e-10},
                    LinearLossSetting{2, false, at::kDouble, 19, 0, 1, 5, true, 1e-10},
                    LinearLossSetting{2, true, at::kDouble, 19, 0.1, 2, 4, false, 1e-10},
                    // The last rank holds only padding.
                    LinearLossSetting{4, true, at::kDouble, 17, 0.2, 0.5, 4, true, 1e-10},
                    LinearLossSetting{4, false, at::kFloat, 24, 0, 1, 3, true, 1e-5},
                    LinearLossSetting{2, true, at::kFloat, 23, 0.1, 0.5, 0, false, 1e-5},
                    LinearLossSetting{1, false, at::kBFloat16, 19, 0.1, 0.5, 7, true, 5e-2},
                    LinearLossSetting{2, true, at::kBFloat16, 23, 0, 1, 5, true, 5e-2},
                    LinearLossSetting{2, false, at::kHalf, 23, 0, 1, 5, false, 1e-2}));

TEST(VocabParallelLinearCrossEntropy, GradientsMatchFiniteDifferences) {
  const auto groups = ProcessGroupCollection::single_rank();
  const at::Tensor targets = at::tensor({0, 6, 3, 3}, at::kLong).view({2, 2});
  test::expect_gradients_by_differences(
      [&](const std::vector<at::Tensor>& in) {
        const auto weight = std::make_shared<Parameter>(
            std::vector<int64_t>{8, 5}, at::TensorOptions().dtype(at::kDouble),
            TensorParallelSharding{}, Initialization::constant(0));
        weight->data = in[1];
        return vocab_parallel_linear_cross_entropy(
            in[0], weight, targets, 7, *groups.tp,
            {.label_smoothing = 0.1, .logit_scale = 0.7, .chunk_columns = 3});
      },
      {test::random_tensor({2, 2, 5}, at::kDouble, 1),
       test::random_tensor({8, 5}, at::kDouble, 2)});
}

// Peak memory of forward and backward, against the layers that it replaces.
TEST(VocabParallelLinearCrossEntropy, HoldsAChunkInsteadOfAllLogits) {
  const auto groups = ProcessGroupCollection::single_rank();
  const int64_t tokens = 512, columns = 8192, h = 16;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    ColumnParallelLinear layer({.input_size = h, .output_size = columns, .bias = false},
                               {at::TensorOptions().dtype(dtype), groups.tp});
    {
      const at::NoGradGuard no_grad;
      layer.weight()->data.copy_(test::random_tensor({columns, h}, dtype, 1));
    }
    layer.weight()->main_grad = at::zeros({columns, h});
    const at::Tensor hidden = test::random_tensor({tokens, 1, h}, dtype, 2).requires_grad_();
    const at::Tensor targets = at::arange(tokens, at::kLong).view({tokens, 1});
    const int64_t unfused = test::peak_bytes([&] {
      torch::autograd::backward(
          {vocab_parallel_cross_entropy(layer.forward(hidden), targets, columns, *groups.tp).sum()},
          {});
    });
    const int64_t chunked = test::peak_bytes([&] {
      torch::autograd::backward(
          {vocab_parallel_linear_cross_entropy(hidden, layer.weight(), targets, columns, *groups.tp,
                                               {.chunk_columns = 512})
               .sum()},
          {});
    });
    EXPECT_GE(unfused, 2 * tokens * columns * static_cast<int64_t>(c10::elementSize(dtype)));
    EXPECT_LT(chunked, unfused * 15 / 100);
  }
}

TEST(VocabParallelLinearCrossEntropy, ForwardRunsTwoAllReduces) {
  CountingGroup tp(2);
  const auto weight =
      std::make_shared<Parameter>(std::vector<int64_t>{8, 5}, at::TensorOptions().dtype(at::kFloat),
                                  TensorParallelSharding{0, 1, 0, 2}, Initialization::constant(0));
  {
    const at::NoGradGuard no_grad;
    weight->data.fill_(0.1);
  }
  vocab_parallel_linear_cross_entropy(at::ones({2, 1, 5}), weight, at::zeros({2, 1}, at::kLong), 15,
                                      *tp.group, {.label_smoothing = 0.1, .chunk_columns = 3});
  EXPECT_EQ(tp.all_reduces(), 2);
}

TEST(VocabParallelLinearCrossEntropy, RefusesBadArguments) {
  const auto groups = ProcessGroupCollection::single_rank();
  const auto weight =
      std::make_shared<Parameter>(std::vector<int64_t>{8, 5}, at::TensorOptions().dtype(at::kFloat),
                                  TensorParallelSharding{}, Initialization::constant(0));
  const at::Tensor hidden = at::ones({2, 1, 5}), targets = at::zeros({2, 1}, at::kLong);
  const auto loss = [&](const at::Tensor& x, const at::Tensor& ids, int64_t vocab_size,
                        const LinearCrossEntropyOptions& options = {}) {
    vocab_parallel_linear_cross_entropy(x, weight, ids, vocab_size, *groups.tp, options);
  };
  expect_error([&] { loss(hidden[0], targets, 8); }, "[s, b, h]");
  expect_error([&] { loss(hidden.to(at::kDouble), targets, 8); }, "dtype");
  expect_error([&] { loss(at::ones({2, 1, 4}), targets, 8); }, "[v_p, 4]");
  expect_error([&] { loss(hidden, targets + 8, 8); }, "[0, 8), but got 8");
  expect_error([&] { loss(hidden, targets.view({1, 2}), 8); }, "targets of shape [2, 1]");
  expect_error([&] { loss(hidden, targets, 9); }, "1 to 8 ids");
  expect_error([&] { loss(hidden, targets, 8, {.label_smoothing = 1}); }, "below 1");
  expect_error([&] { loss(hidden, targets, 8, {.logit_scale = -1}); }, "above 0, but got -1");
  expect_error([&] { loss(hidden, targets, 8, {.chunk_columns = -3}); },
               "chunk_columns of at least 1");
  weight->main_grad = at::zeros({8, 4});
  expect_error([&] { loss(hidden, targets, 8); }, "weight_main_grad");
}

}  // namespace
}  // namespace megatron
