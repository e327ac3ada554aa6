#include "megatron/ops/grouped/grouped_mlp.h"

#include <limits>

#include "megatron/ops/grouped/grouped_gemm.h"

#include "tests/ops/grouped/grouped_test.h"

namespace megatron::test {
namespace {

using kernels::Activation;

struct MLPCase {
  std::string name;
  ActivationOptions activation;
};

std::vector<MLPCase> mlp_cases() {
  const GluOptions plain, clamped{.clamp_value = 1.2, .linear_offset = 1};
  return {{"gelu", {Activation::gelu, {}}},
          {"gelu_tanh", {Activation::gelu_tanh, {}}},
          {"squared_relu", {Activation::squared_relu, {}}},
          {"quick_gelu", {Activation::quick_gelu, {}}},
          {"swiglu", {Activation::silu, plain}},
          {"geglu", {Activation::gelu, plain}},
          {"geglu_tanh", {Activation::gelu_tanh, plain}},
          {"clamped swiglu", {Activation::silu, clamped}},
          {"clamped quick_geglu", {Activation::quick_gelu, clamped}}};
}

// x, probs, fc1_weight, fc1_bias, fc2_weight, fc2_bias
std::vector<at::Tensor> mlp_inputs(const std::vector<int64_t>& counts, int64_t h, int64_t f,
                                   bool gated, bool with_probs, bool with_bias,
                                   at::ScalarType dtype) {
  const int64_t rows = sum_of(counts), experts = static_cast<int64_t>(counts.size());
  const int64_t w = gated ? 2 * f : f;
  const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
  const auto scaled = [&](at::IntArrayRef shape, uint64_t seed, double scale) {
    return (random_tensor(shape, at::kDouble, seed) * scale).to(dtype);
  };
  return {random_tensor({rows, h}, dtype, 1),
          with_probs ? random_tensor({rows}, wide, 2).sigmoid() : at::Tensor(),
          scaled({experts, w, h}, 3, 1 / std::sqrt(static_cast<double>(h))),
          with_bias ? random_tensor({experts, w}, dtype, 4) : at::Tensor(),
          scaled({experts, h, f}, 5, 1 / std::sqrt(static_cast<double>(f))),
          with_bias ? random_tensor({experts, h}, dtype, 6) : at::Tensor()};
}

GroupedMLPWeights mlp_weights(const std::vector<at::Tensor>& in) {
  return {.fc1_weight = in[2], .fc1_bias = in[3], .fc2_weight = in[4], .fc2_bias = in[5]};
}

Operator fused_mlp_of(const std::vector<int64_t>& counts, const ActivationOptions& activation) {
  return [=](const std::vector<at::Tensor>& in) {
    return grouped_mlp(in[0], in[1], counts_tensor(counts), mlp_weights(in), {activation});
  };
}

// In fp64, except that the output of linear_fc1 and of the activation have the inputs' dtype: a clamped
// unit's gradient jumps at its limit, on whose two sides a value and its rounded value may lie.
Operator unfused_mlp_of(const std::vector<int64_t>& counts, const ActivationOptions& activation) {
  return [=](const std::vector<at::Tensor>& in) {
    const auto dtype = in[0].scalar_type();
    const auto wide = [](const at::Tensor& x) { return x.defined() ? x.to(at::kDouble) : x; };
    const at::Tensor count = counts_tensor(counts), probs = wide(in[1]);
    const at::Tensor hidden =
        wide(unfused::grouped_gemm(wide(in[0]), count, wide(in[2]), wide(in[3])).to(dtype));
    at::Tensor output = unfused::bias_activation(hidden, {}, activation);
    if (probs.defined()) output = output * probs.unsqueeze(1);
    at::Tensor y = unfused::grouped_gemm(wide(output.to(dtype)), count, wide(in[4]), {});
    if (in[5].defined()) {
      const at::Tensor bias = wide(in[5]).repeat_interleave(count, 0);
      y = y + (probs.defined() ? bias * probs.unsqueeze(1) : bias);
    }
    return y.to(dtype);
  };
}

// A bf16 result that goes through two roundings before the last product.
double mlp_bound(at::ScalarType dtype) {
  return c10::elementSize(dtype) == 2 ? 3e-2 : 10 * tolerance(dtype);
}

TEST(GroupedMLP, MatchesUnfusedForEveryActivation) {
  const std::vector<int64_t> counts{5, 0, 40, 1};
  for (const auto& [name, activation] : mlp_cases()) {
    for (const auto dtype : all_dtypes()) {
      for (const bool with_probs : {true, false}) {
        for (const bool with_bias : {true, false}) {
          const auto inputs =
              mlp_inputs(counts, 64, 40, activation.glu.has_value(), with_probs, with_bias, dtype);
          expect_like_reference(fused_mlp_of(counts, activation),
                                unfused_mlp_of(counts, activation), inputs, mlp_bound(dtype),
                                name + (with_probs ? ", probs" : "") + (with_bias ? ", bias" : ""));
        }
      }
    }
  }
}

TEST(GroupedMLP, MatchesUnfusedForRandomShapes) {
  RandomCounts random(7);
  const std::vector<MLPCase> cases = mlp_cases();
  for (int i = 0; i < 40; ++i) {
    const auto dtype = std::array{at::kFloat, at::kDouble, at::kBFloat16}[i % 3];
    const std::vector<int64_t> counts = random.counts();
    const auto& [name, activation] = cases[random.between(0, 8)];
    const int64_t h = random.between(1, 150), f = random.between(1, 150);
    const auto inputs = mlp_inputs(counts, h, f, activation.glu.has_value(),
                                   random.between(0, 1) == 1, random.between(0, 1) == 1, dtype);
    expect_like_reference(
        fused_mlp_of(counts, activation), unfused_mlp_of(counts, activation), inputs,
        mlp_bound(dtype),
        fmt::format("{} h {} f {} counts {}", name, h, f, fmt::join(counts, ",")));
  }
}

TEST(GroupedMLP, GradientsMatchFiniteDifferences) {
  const std::vector<int64_t> counts{2, 0, 3, 1};
  for (const auto& [name, activation] : mlp_cases()) {
    SCOPED_TRACE(name);
    expect_gradients_by_differences(
        fused_mlp_of(counts, activation),
        mlp_inputs(counts, 5, 3, activation.glu.has_value(), true, true, at::kDouble), 1e-5);
  }
}

// The composition for other devices, which the tests above do not run.
TEST(GroupedMLP, UnfusedAgrees) {
  const std::vector<int64_t> counts{4, 0, 9};
  for (const auto& [name, activation] : mlp_cases()) {
    const auto inputs =
        mlp_inputs(counts, 12, 6, activation.glu.has_value(), true, true, at::kDouble);
    expect_like_reference(
        [&, activation = activation](const std::vector<at::Tensor>& in) {
          return unfused::grouped_mlp(in[0], in[1], counts_tensor(counts), mlp_weights(in),
                                      {activation});
        },
        unfused_mlp_of(counts, activation), inputs, 1e-12, name);
  }
}

TEST(GroupedMLP, NoRows) {
  for (const auto dtype : all_dtypes()) {
    const ActivationOptions swiglu{Activation::silu, GluOptions{}};
    const auto inputs = mlp_inputs({0, 0}, 8, 4, true, true, true, dtype);
    const auto result = run(fused_mlp_of({0, 0}, swiglu), inputs);
    EXPECT_EQ(result.value.sizes(), (std::vector<int64_t>{0, 8}));
    for (size_t i = 2; i < inputs.size(); ++i) {
      expect_identical(result.gradients[i], at::zeros_like(inputs[i]), std::to_string(i));
    }
  }
}

// Rows of probability 0, such as padding, give exact zeros and gradients of exact 0.
TEST(GroupedMLP, RowsOfProbabilityZero) {
  const ActivationOptions swiglu{Activation::silu, GluOptions{}};
  const std::vector<int64_t> counts{3, 2};
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    auto inputs = mlp_inputs(counts, 16, 8, true, true, true, dtype);
    inputs[1].index_put_({at::tensor({1, 4})}, at::zeros({2}));
    const auto result = run(fused_mlp_of(counts, swiglu), inputs);
    for (const int row : {1, 4}) {
      EXPECT_TRUE(result.value[row].eq(0).all().item<bool>());
      EXPECT_TRUE(result.gradients[0][row].eq(0).all().item<bool>());
    }
  }
}

// Two micro-batches are in flight at once, as in a pipeline.
TEST(GroupedMLP, AccumulatesMicroBatchesIntoMainGrad) {
  const ActivationOptions swiglu{Activation::silu, GluOptions{}};
  const std::vector<int64_t> counts{30, 0, 4};
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const bool deferred : {false, true}) {
      const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
      auto inputs = mlp_inputs(counts, 32, 24, true, true, false, dtype);
      GroupedMLPWeights weights = mlp_weights(inputs);
      weights.fc1_weight.requires_grad_();
      weights.fc2_weight.requires_grad_();
      weights.fc1_main_grad = at::ones(weights.fc1_weight.sizes(), wide);
      weights.fc2_main_grad = at::ones(weights.fc2_weight.sizes(), wide);
      at::Tensor want_fc1 = at::ones(weights.fc1_weight.sizes(), at::kDouble);
      at::Tensor want_fc2 = at::ones(weights.fc2_weight.sizes(), at::kDouble);
      std::vector<std::function<void()>> later;
      GroupedMLPOptions options{swiglu, {}};
      if (deferred) {
        options.defer_weight_gradients = [&](std::function<void()> work) {
          later.push_back(std::move(work));
        };
      }
      std::vector<at::Tensor> outputs;
      for (int i = 0; i < 2; ++i) {
        inputs[0] = random_tensor({34, 32}, dtype, 10 + i);
        outputs.push_back(
            grouped_mlp(inputs[0], inputs[1], counts_tensor(counts), weights, options));
        const auto want = run(unfused_mlp_of(counts, swiglu), inputs);
        want_fc1 += want.gradients[2].to(at::kDouble);
        want_fc2 += want.gradients[3].to(at::kDouble);
      }
      for (int i = 0; i < 2; ++i) {
        torch::autograd::backward({outputs[i]}, {random_tensor({34, 32}, dtype, 12345)});
      }
      EXPECT_EQ(later.size(), deferred ? 2u : 0u);
      for (const auto& work : later) work();
      EXPECT_FALSE(weights.fc1_weight.grad().defined());
      EXPECT_FALSE(weights.fc2_weight.grad().defined());
      expect_close(weights.fc1_main_grad, want_fc1.to(wide), 5 * mlp_bound(dtype));
      expect_close(weights.fc2_main_grad, want_fc2.to(wide), 5 * mlp_bound(dtype));
    }
  }
}

TEST(GroupedMLP, FrozenWeights) {
  const ActivationOptions swiglu{Activation::silu, GluOptions{}};
  const auto inputs = mlp_inputs({4, 3}, 16, 8, true, true, true, at::kFloat);
  const auto want = run(fused_mlp_of({4, 3}, swiglu), inputs);
  const at::Tensor x = inputs[0].detach().requires_grad_();
  const at::Tensor y =
      grouped_mlp(x, inputs[1], counts_tensor({4, 3}), mlp_weights(inputs), {swiglu});
  torch::autograd::backward({y}, {random_tensor(y.sizes(), at::kFloat, 12345)});
  expect_identical(x.grad(), want.gradients[0]);
}

TEST(GroupedMLP, RefusesBadArguments) {
  const ActivationOptions swiglu{Activation::silu, GluOptions{}};
  auto in = mlp_inputs({2, 3}, 8, 4, true, true, true, at::kFloat);
  const auto call = [&](const std::vector<int64_t>& counts) {
    grouped_mlp(in[0], in[1], counts_tensor(counts), mlp_weights(in), {swiglu});
  };
  expect_error([&] { call({2, 2}); }, "Expected counts that add up to 5 rows, but got 4");
  expect_error([&] { call({2, 2, 1}); }, "Expected counts of 2 experts, but got 3");
  expect_error([&] { call({6, -1}); }, "Expected counts of at least 0, but got -1 for expert 1");
  const at::Tensor probs = std::exchange(in[1], at::zeros({4}));
  expect_error([&] { call({2, 3}); }, "Expected probs of shape [5]");
  in[1] = probs;
  in[4] = at::zeros({2, 8, 5});
  expect_error([&] { call({2, 3}); }, "Expected fc2_weight of shape [2, 8, 4]");
  in = mlp_inputs({2, 3}, 8, 4, true, true, true, at::kFloat);
  GroupedMLPOptions options{swiglu, [](const std::function<void()>&) {}};
  GroupedMLPWeights weights = mlp_weights(in);
  weights.fc1_weight.requires_grad_();
  expect_error(
      [&] {
        grouped_mlp(in[0], in[1], counts_tensor({2, 3}), weights, options);
      },
      "Expected fc1_main_grad");
}

}  // namespace
}  // namespace megatron::test
