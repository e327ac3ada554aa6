// A column-parallel layer followed by a row-parallel one, as in an MLP, against one rank: outputs
// and all gradients. Also the sharding of a parameter with stride 2, and the embedding's refusals.
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"
#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"
#include "megatron/tensor_parallel/vocab_parallel_embedding.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

at::Tensor pattern(at::IntArrayRef shape, double phase) {
  return at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * 0.7 + phase).view(shape);
}

struct LinearSetting {
  int tp;
  bool sequence_parallel;
};

class ParallelLinear : public testing::TestWithParam<LinearSetting> {};

TEST_P(ParallelLinear, MatchesOneRank) {
  const auto [tp, sequence_parallel] = GetParam();
  const int64_t s = 8, b = 2, h = 6, f = 16;
  const at::Tensor w1 = pattern({f, h}, 0).set_requires_grad(true),
                   b1 = pattern({f}, 1).set_requires_grad(true);
  const at::Tensor w2 = pattern({h, f}, 2).set_requires_grad(true),
                   x = pattern({s, b, h}, 3).set_requires_grad(true);
  const at::Tensor g = pattern({s, b, h}, 4);
  const at::Tensor y = at::tanh(at::linear(x, w1, b1)).matmul(w2.t());
  torch::autograd::backward({y}, {g});

  run_thread_world(tp, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.tp = tp});
    const LayerOptions options{at::TensorOptions().dtype(at::kDouble), groups.tp,
                               sequence_parallel};
    ColumnParallelLinear column({.input_size = h, .output_size = f, .bias = true}, options);
    RowParallelLinear row({.input_size = f, .output_size = h, .bias = false}, options);
    const auto column_parameters = column.parameters();
    const auto row_parameters = row.parameters();
    {
      at::NoGradGuard no_grad;
      column_parameters[0]->data.copy_(column_parameters[0]->local_part(w1));
      column_parameters[1]->data.copy_(column_parameters[1]->local_part(b1));
      row_parameters[0]->data.copy_(row_parameters[0]->local_part(w2));
    }
    const int64_t length = sequence_parallel ? s / tp : s,
                  first = sequence_parallel ? length * rank.rank : 0;
    const at::Tensor input =
        x.detach().narrow(0, first, length).contiguous().set_requires_grad(true);
    const at::Tensor output = row.forward(at::tanh(column.forward(input)));
    EXPECT_TRUE(at::allclose(output, y.narrow(0, first, length), 1e-12, 1e-12));
    torch::autograd::backward({output}, {g.narrow(0, first, length).contiguous()});
    EXPECT_TRUE(at::allclose(input.grad(), x.grad().narrow(0, first, length), 1e-12, 1e-12));
    const auto expect_gradient = [](const ParameterPtr& parameter, const at::Tensor& global) {
      EXPECT_TRUE(
          at::allclose(parameter->data.grad(), parameter->local_part(global), 1e-12, 1e-12));
    };
    expect_gradient(column_parameters[0], w1.grad());
    expect_gradient(column_parameters[1], b1.grad());
    expect_gradient(row_parameters[0], w2.grad());
  });
}

INSTANTIATE_TEST_SUITE_P(Settings, ParallelLinear,
                         testing::Values(LinearSetting{1, false}, LinearSetting{2, false},
                                         LinearSetting{2, true}, LinearSetting{4, true}));

// [gate; up]: each half is partitioned over the ranks.
TEST(Parameter, StrideTwoPartitionsBothHalves) {
  Parameter parameter({4, 1}, at::TensorOptions().dtype(at::kFloat),
                      {.partition_dim = 0, .partition_stride = 2, .rank = 1, .size = 2},
                      Initialization::constant(0));
  const at::Tensor global = at::arange(8, at::kFloat).view({8, 1});
  EXPECT_TRUE(at::equal(parameter.local_part(global).view(-1), at::tensor({2.f, 3.f, 6.f, 7.f})));
}

TEST(VocabParallelEmbedding, RefusesIdsOutsideTheVocabulary) {
  run_thread_world(2, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.tp = 2});
    const VocabParallelEmbedding embedding(8, 4, 0.02,
                                           {at::TensorOptions().dtype(at::kDouble), groups.tp});
    EXPECT_NO_THROW(embedding.forward(at::full({1, 3}, 7, at::kLong), false));
    EXPECT_THAT(
        [&] {
          embedding.forward(at::full({1, 3}, 8, at::kLong), false);
        },
        testing::ThrowsMessage<Error>(testing::HasSubstr("[0, 8), but got 8")));
  });
}

}  // namespace
}  // namespace megatron
