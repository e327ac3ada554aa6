#include "megatron/optimizer/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace megatron {
namespace {

ParameterPtr make_parameter(std::vector<int64_t> shape, double value, double gradient,
                            at::ScalarType dtype = at::kFloat) {
  auto parameter =
      std::make_shared<Parameter>(shape, at::TensorOptions().dtype(dtype), TensorParallelSharding{},
                                  Initialization::constant(value));
  at::NoGradGuard no_grad;
  parameter->data.fill_(value);
  parameter->main_grad = at::full(shape, gradient, dtype == at::kDouble ? at::kDouble : at::kFloat);
  return parameter;
}

OptimizerConfig adam_config() {
  OptimizerConfig config;
  config.adam_beta2 = 0.95;
  config.weight_decay = 0.1;
  config.clip_grad = 0;
  return config;
}

// The first Adam step moves every element by lr * g / (|g| + eps), after the decoupled decay.
TEST(Optimizer, WeightDecaySkipsBiasesAndNorms) {
  const ParameterPtr matrix = make_parameter({4, 4}, 1.0, 0.5),
                     bias = make_parameter({4}, 1.0, 0.5);
  Optimizer optimizer(adam_config(), {matrix, bias}, ProcessGroupCollection::single_rank());
  optimizer.step(0.01);
  EXPECT_NEAR(matrix->data[0][0].item<double>(), 1.0 - 0.01 * 0.1 - 0.01, 1e-6);
  EXPECT_NEAR(bias->data[0].item<double>(), 1.0 - 0.01, 1e-6);
}

// --decoupled-lr: embeddings and output layer take their own rate.
TEST(Optimizer, EmbeddingsTakeTheDecoupledRate) {
  OptimizerConfig config = adam_config();
  config.weight_decay = 0;
  const ParameterPtr hidden = make_parameter({2, 2}, 1.0, 0.5),
                     embedding = make_parameter({2, 2}, 1.0, 0.5);
  embedding->is_embedding_or_output_parameter = true;
  Optimizer optimizer(config, {hidden, embedding}, ProcessGroupCollection::single_rank());
  optimizer.step(0.01, 0.03);
  EXPECT_NEAR(hidden->data[0][0].item<double>(), 1 - 0.01, 1e-6);
  EXPECT_NEAR(embedding->data[0][0].item<double>(), 1 - 0.03, 1e-6);
  optimizer.step(0.01);
  EXPECT_NEAR(embedding->data[0][0].item<double>(), 1 - 0.04, 1e-6);
}

// Megatron's MuP parameter groups with a width multiplier of 4: Adam divides the learning rate and
// epsilon of hidden matrices by it; SGD multiplies the rate of all other parameters.
TEST(Optimizer, MupScalesRatesAndEpsilonByKindOfParameter) {
  const double m = 4, lr = 0.01, g = 0.5, eps = 0.1;
  const auto stepped = [&](OptimizerType type, bool scales, bool is_matrix, bool is_embedding) {
    OptimizerConfig config = adam_config();
    config.optimizer = type;
    config.weight_decay = 0;
    config.adam_eps = eps;
    config.mup_scales_learning_rate = scales;
    const ParameterPtr parameter = make_parameter(
        is_matrix ? std::vector<int64_t>{2, 2} : std::vector<int64_t>{4}, 1.0, g, at::kDouble);
    parameter->is_embedding_parameter = is_embedding;
    Optimizer optimizer(config, {parameter}, ProcessGroupCollection::single_rank(), m);
    optimizer.step(lr);
    return parameter->data.view(-1)[0].item<double>();
  };
  constexpr auto kAdam = OptimizerType::adam, kSgd = OptimizerType::sgd;
  EXPECT_NEAR(stepped(kAdam, true, true, false), 1 - lr / m * g / (g + eps / m), 1e-12);
  EXPECT_NEAR(stepped(kAdam, true, false, false), 1 - lr * g / (g + eps), 1e-12);
  EXPECT_NEAR(stepped(kAdam, true, true, true), 1 - lr * g / (g + eps), 1e-12);
  EXPECT_NEAR(stepped(kAdam, false, true, false), 1 - lr * g / (g + eps / m), 1e-12);
  EXPECT_NEAR(stepped(kSgd, true, true, false), 1 - lr * g, 1e-12);
  EXPECT_NEAR(stepped(kSgd, true, false, false), 1 - lr * m * g, 1e-12);
  EXPECT_NEAR(stepped(kSgd, true, true, true), 1 - lr * m * g, 1e-12);
  EXPECT_NEAR(stepped(kSgd, false, false, false), 1 - lr * g, 1e-12);
}

TEST(Optimizer, SgdAddsWeightDecayToTheGradient) {
  OptimizerConfig config = adam_config();
  config.optimizer = OptimizerType::sgd;
  const ParameterPtr matrix = make_parameter({2, 2}, 1.0, 0.5);
  Optimizer optimizer(config, {matrix}, ProcessGroupCollection::single_rank());
  optimizer.step(0.01);
  EXPECT_NEAR(matrix->data[0][0].item<double>(), 1.0 - 0.01 * (0.5 + 0.1), 1e-6);
}

TEST(Optimizer, ClipsByTheGlobalNorm) {
  OptimizerConfig config = adam_config();
  config.optimizer = OptimizerType::sgd;
  config.weight_decay = 0;
  config.clip_grad = 1.0;
  const ParameterPtr a = make_parameter({4, 4}, 0.0, 3.0), b = make_parameter({9, 1}, 0.0, 4.0);
  Optimizer optimizer(config, {a, b}, ProcessGroupCollection::single_rank());
  const double norm = std::sqrt(16 * 9.0 + 9 * 16.0);
  EXPECT_DOUBLE_EQ(optimizer.step(1.0).grad_norm, norm);
  EXPECT_NEAR(a->data[0][0].item<double>(), -3.0 / norm, 1e-6);
  EXPECT_NEAR(b->data[0][0].item<double>(), -4.0 / norm, 1e-6);
}

TEST(Optimizer, DetachedMtpLayersAreClippedByTheirOwnNorm) {
  OptimizerConfig config = adam_config();
  config.optimizer = OptimizerType::sgd;
  config.weight_decay = 0;
  config.clip_grad = 1.0;
  const ParameterPtr a = make_parameter({4, 4}, 0.0, 3.0), b = make_parameter({9, 1}, 0.0, 0.1);
  b->gradient_norm_group = GradientNormGroup::multi_token_prediction;
  Optimizer optimizer(config, {a, b}, ProcessGroupCollection::single_rank());
  EXPECT_DOUBLE_EQ(optimizer.step(1.0).grad_norm, 12.0);
  EXPECT_NEAR(a->data[0][0].item<double>(), -3.0 / 12, 1e-6);
  EXPECT_NEAR(b->data[0][0].item<double>(), -0.1, 1e-6);  // their norm of 0.3 is not clipped
  b->main_grad[0][0] = std::nan("");
  EXPECT_TRUE(optimizer.step(1.0).skipped);
}

TEST(Optimizer, SkipsAStepWithANonFiniteGradient) {
  const ParameterPtr matrix = make_parameter({2, 2}, 1.0, 0.5);
  Optimizer optimizer(adam_config(), {matrix}, ProcessGroupCollection::single_rank());
  matrix->main_grad[0][1] = std::nan("");
  EXPECT_TRUE(optimizer.step(0.01).skipped);
  EXPECT_EQ(matrix->data[0][0].item<double>(), 1.0);
  EXPECT_EQ(optimizer.num_steps(), 0);
}

// Steps that are too small for bf16 accumulate in the fp32 master.
TEST(Optimizer, Fp32MastersAccumulateSmallSteps) {
  OptimizerConfig config = adam_config();
  config.optimizer = OptimizerType::sgd;
  config.weight_decay = 0;
  config.sgd_momentum = 0;
  const ParameterPtr parameter = make_parameter({8}, 1.0, 1.0, at::kBFloat16);
  Optimizer optimizer(config, {parameter}, ProcessGroupCollection::single_rank());
  for (int i = 0; i < 100; ++i) optimizer.step(1e-4);
  EXPECT_NEAR(optimizer.states()[0].master[0].item<double>(), 0.99, 1e-5);
  EXPECT_NEAR(parameter->data[0].item<double>(), 0.99, 4e-3);
  EXPECT_LT(parameter->data[0].item<double>(), 1.0);
}

}  // namespace
}  // namespace megatron
