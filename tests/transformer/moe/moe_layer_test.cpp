// MoELayer: values, recomputation, layouts of one layer, refusals.
#include "megatron/transformer/moe/moe_layer.h"

#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"
#include "megatron/ops/activation.h"
#include "megatron/transformer/mlp_activation.h"

#include "tests/parallel/thread_world.h"
#include "tests/transformer/moe/moe_fixture.h"

namespace megatron {
namespace {

constexpr int64_t kPositions = 8, kRows = 2;

const Parameter& parameter_of(const MegatronModule& module, const std::string& suffix) {
  for (const ParameterPtr& parameter : module.parameters())
    if (parameter->name.ends_with(suffix)) return *parameter;
  throw Error("no parameter " + suffix);
}

struct MoeVariant {
  const char* name;
  std::function<void(TransformerConfig&)> apply;
};

const std::vector<MoeVariant>& moe_variants() {
  static const std::vector<MoeVariant> variants = {
      {"swiglu", [](TransformerConfig&) {}},
      {"clamped",
       [](TransformerConfig& c) {
         c.activation_func = ActivationFunction::quick_gelu;
         c.glu_linear_offset = 1;
         c.activation_func_clamp_value = 0.5;
       }},
      {"gelu_with_biases",
       [](TransformerConfig& c) {
         c.activation_func = ActivationFunction::gelu;
         c.gated_linear_unit = false;
         c.add_bias_linear = true;
       }},
      {"probs_on_input",
       [](TransformerConfig& c) {
         c.moe.moe_router_topk = 1;
         c.moe.moe_router_score_function = MoeRouterScoreFunction::sigmoid;
         c.moe.moe_apply_probs_on_input = true;
       }},
      {"mlp_bias_alone", [](TransformerConfig& c) { c.add_mlp_bias = true; }},
      {"shared_with_gate",
       [](TransformerConfig& c) {
         c.moe.moe_shared_expert_intermediate_size = 8;
         c.moe.moe_shared_expert_gate = true;
       }},
      {"shared_overlapped",
       [](TransformerConfig& c) {
         c.moe.moe_shared_expert_intermediate_size = 8;
         c.moe.moe_shared_expert_gate = true;
         c.moe.moe_shared_expert_overlap = true;
       }},
      {"padded_capacity",
       [](TransformerConfig& c) {
         c.moe.moe_expert_capacity_factor = 0.75;
         c.moe.moe_pad_expert_input_to_capacity = true;
       }},
      {"padded_capacity_and_rows",
       [](TransformerConfig& c) {
         c.moe.moe_expert_capacity_factor = 0.75;
         c.moe.moe_pad_expert_input_to_capacity = true;
         c.moe.moe_router_padding_for_quantization = 16;
       }},
      {"padded_rows", [](TransformerConfig& c) { c.moe.moe_router_padding_for_quantization = 16; }},
      {"allgather", [](TransformerConfig& c) {
         c.moe.moe_token_dispatcher_type = MoeTokenDispatcherType::allgather;
       }}};
  return variants;
}

void fill_parameters(const MegatronModule& module) {
  const at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : module.parameters()) {
    if (parameter->is_buffer || !parameter->name.ends_with(".bias")) continue;
    const at::Tensor values =
        at::sin(at::arange(c10::multiply_integers(parameter->global_shape()), at::kDouble))
            .view(parameter->global_shape());
    parameter->data.copy_(parameter->local_part(values * 0.3));
  }
}

// Every token by itself through its experts.
at::Tensor reference(const MoELayer& layer, const TransformerConfig& config, const at::Tensor& x,
                     const Routing& routing) {
  const at::Tensor fc1 = parameter_of(layer, "experts.linear_fc1.weight").data.detach();
  const at::Tensor fc2 = parameter_of(layer, "experts.linear_fc2.weight").data.detach();
  const auto bias = [&](const char* name, int64_t expert) {
    return config.has_mlp_bias() ? parameter_of(layer, name).data.detach()[expert] : at::Tensor();
  };
  const at::Tensor tokens = x.flatten(0, 1);
  at::Tensor output = at::zeros_like(tokens);
  for (int64_t t = 0; t < tokens.size(0); ++t) {
    for (int64_t e = 0; e < routing.map.size(1); ++e) {
      if (!routing.map[t][e].item<bool>()) continue;
      const at::Tensor p = routing.probs[t][e];
      const bool on_input = config.moe.moe_apply_probs_on_input;
      const at::Tensor input = (on_input ? tokens[t] * p : tokens[t]).unsqueeze(0);
      at::Tensor y = at::linear(
          unfused::bias_activation(at::linear(input, fc1[e]), bias("experts.linear_fc1.bias", e),
                                   mlp_activation(config)),
          fc2[e]);
      if (config.has_mlp_bias()) y = y + bias("experts.linear_fc2.bias", e);
      output[t] += on_input ? y[0] : y[0] * p;
    }
  }
  return output.view_as(x);
}

class MoeVariants : public testing::TestWithParam<MoeVariant> {};

TEST_P(MoeVariants, EqualsEachTokenByItself) {
  TransformerConfig config = moe_config(/*experts=*/4, /*topk=*/2);
  GetParam().apply(config);
  const auto layer = build_moe(config);
  fill_parameters(*layer);
  const at::NoGradGuard no_grad;
  const at::Tensor x = moe_input(kPositions, kRows, config.hidden_size);
  const ForwardContext context = moe_context(false, kPositions, kRows);
  at::Tensor expected = reference(*layer, config, x, layer->router()->forward(x, context));
  if (config.moe.moe_shared_expert_gate) {
    const auto of = [&](const char* name) {
      return parameter_of(*layer, std::string("shared_experts.") + name).data.detach();
    };
    const at::Tensor shared =
        at::linear(unfused::bias_activation(at::linear(x, of("linear_fc1.weight")), {},
                                            mlp_activation(config)),
                   of("linear_fc2.weight"));
    expected += shared * at::linear(x, of("gate_weight")).sigmoid();
  }
  EXPECT_TRUE(layer->forward(x, context).output.allclose(expected, 1e-10, 1e-10));
}

// Gradients of the layer and of its input in any grid equal those of one rank. Each data-parallel
// rank has some of the rows, and each tensor-parallel rank some of the positions.
struct LayerGrid {
  int tp, dp, ep, etp;
};

void expect_equal_in(const LayerGrid& grid, const MoeVariant& variant) {
  TransformerConfig config = moe_config(/*experts=*/4, /*topk=*/2);
  variant.apply(config);
  const int64_t rows = 4;
  const at::Tensor x = moe_input(kPositions, rows, config.hidden_size);
  const at::Tensor grad = at::cos(x * 3);
  const auto alone = build_moe(config);
  fill_parameters(*alone);
  const at::Tensor whole = x.clone().set_requires_grad(true);
  const at::Tensor expected = alone->forward(whole, moe_context(true, kPositions, rows)).output;
  torch::autograd::backward({expected}, {grad});
  run_thread_world(grid.tp * grid.dp, [&](RankContext& rank) {
    const ProcessGroupCollection groups =
        rank.make_groups({.tp = grid.tp, .ep = grid.ep, .dp = grid.dp, .expt_tp = grid.etp});
    TransformerConfig local = config;
    local.tensor_model_parallel_size = grid.tp;
    local.sequence_parallel = grid.tp > 1;
    const auto layer = build_moe(local, at::kDouble, groups);
    fill_parameters(*layer);
    const int64_t b = rows / grid.dp, s = kPositions / grid.tp;
    const auto part = [&](const at::Tensor& tensor) {
      return tensor.detach()
          .narrow(1, groups.dp->rank() * b, b)
          .narrow(0, groups.tp->rank() * s, s)
          .contiguous();
    };
    ForwardContext context = ForwardContext::make(
        true, 3, at::arange(groups.dp->rank() * b, (groups.dp->rank() + 1) * b), kPositions,
        local.sequence_parallel, groups.tp->rank(), grid.tp);
    context.shares_rows = grid.dp > 1;
    const at::Tensor input = part(x).set_requires_grad(true);
    const at::Tensor output = layer->forward(input, context).output;
    torch::autograd::backward({output}, {part(grad)});
    EXPECT_TRUE(output.allclose(part(expected), 1e-10, 1e-10));
    EXPECT_TRUE(input.grad().allclose(part(whole.grad()), 1e-10, 1e-10));
    for (const ParameterPtr& parameter : layer->parameters()) {
      if (parameter->is_buffer) continue;
      const Parameter& whole_parameter = parameter_of(*alone, parameter->name);
      const at::Tensor sum = parameter->data.grad().clone();
      (parameter->expert ? groups.expt_dp : groups.dp)->all_reduce(sum);
      if (parameter->sequence_parallel) groups.tp->all_reduce(sum);
      EXPECT_TRUE(sum.allclose(parameter->local_part(whole_parameter.data.grad()), 1e-10, 1e-10))
          << parameter->name;
    }
  });
}

TEST_P(MoeVariants, EqualOneRankInEveryGrid) {
  for (const LayerGrid& grid :
       {LayerGrid{1, 2, 2, 1}, LayerGrid{1, 4, 4, 1}, LayerGrid{2, 1, 1, 2}, LayerGrid{2, 1, 2, 1},
        LayerGrid{2, 1, 1, 1}, LayerGrid{1, 2, 1, 2}, LayerGrid{2, 2, 2, 2}, LayerGrid{2, 2, 4, 1},
        LayerGrid{1, 4, 2, 1}}) {
    SCOPED_TRACE(fmt::format("tp {} dp {} ep {} etp {}", grid.tp, grid.dp, grid.ep, grid.etp));
    expect_equal_in(grid, GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, MoeVariants, testing::ValuesIn(moe_variants()),
                         [](const auto& info) { return info.param.name; });

TEST(MoELayer, RecomputationGivesTheSameNumbersAndRecordsOnce) {
  TransformerConfig config = moe_config(4, 2);
  config.moe.moe_shared_expert_intermediate_size = 8;
  config.moe.moe_aux_loss_coeff = {0.1};
  config.moe.moe_router_load_balancing_type = {"global_aux_loss"};
  config.moe.moe_router_score_function = MoeRouterScoreFunction::sigmoid;
  config.moe.moe_router_enable_expert_bias = true;
  const at::Tensor x = moe_input(kPositions, kRows, config.hidden_size);
  struct Result {
    at::Tensor output, input, counts;
    std::map<std::string, at::Tensor> gradients;
    double loss;
  };
  const auto run = [&](bool recompute) {
    TransformerConfig local = config;
    if (recompute) {
      local.recompute.recompute_granularity = RecomputeGranularity::selective;
      local.recompute.recompute_modules = {"moe", "shared_experts"};
    }
    const auto layer = build_moe(local);
    const auto step = std::make_shared<MoeStep>();
    Result result;
    const at::Tensor input = x.clone().set_requires_grad(true);
    for (int microbatch = 0; microbatch < 2; ++microbatch) {
      ForwardContext context = moe_context(true, kPositions, kRows);
      context.moe = std::make_shared<MoePass>(step, 0.5);
      result.output = layer->forward(input * (microbatch + 1), context).output;
      torch::autograd::backward({result.output.square().sum()}, {});
    }
    result.input = input.grad();
    for (const ParameterPtr& parameter : layer->parameters())
      if (!parameter->is_buffer) result.gradients[parameter->name] = parameter->data.grad();
    result.counts = layer->router()->local_tokens_per_expert()->data;
    result.loss = step->layers().at(0).losses.at(0).second.item<double>();
    return result;
  };
  const Result plain = run(false), recomputed = run(true);
  EXPECT_TRUE(plain.output.equal(recomputed.output));
  // Gradients of an input that several modules read are summed in another order.
  EXPECT_TRUE(plain.input.allclose(recomputed.input, 1e-12, 1e-12));
  EXPECT_TRUE(plain.counts.equal(recomputed.counts));
  EXPECT_EQ(plain.counts.sum().item<double>(), 2 * 2 * kPositions * kRows);
  EXPECT_EQ(plain.loss, recomputed.loss);
  for (const auto& [name, gradient] : plain.gradients)
    EXPECT_TRUE(gradient.allclose(recomputed.gradients.at(name), 1e-12, 1e-12)) << name;
}

TEST(MoELayer, TrainingWithTensorParallelismNeedsSequenceParallelism) {
  run_thread_world(2, [](RankContext& rank) {
    const ProcessGroupCollection groups = rank.make_groups({.tp = 2});
    TransformerConfig config = moe_config(4, 2);
    config.tensor_model_parallel_size = 2;
    const auto layer = build_moe(config, at::kDouble, groups);
    const at::Tensor x = moe_input(kPositions, kRows, config.hidden_size);
    EXPECT_THAT([&] { layer->forward(x, moe_context(true, kPositions, kRows)); },
                testing::ThrowsMessage<Error>(testing::HasSubstr("Expected sequence_parallel")));
    // Evaluation works: all ranks have all tokens.
    const at::NoGradGuard no_grad;
    const at::Tensor output = layer->forward(x, moe_context(false, kPositions, kRows)).output;
    const auto alone = build_moe(moe_config(4, 2));
    EXPECT_TRUE(output.allclose(alone->forward(x, moe_context(false, kPositions, kRows)).output,
                                1e-10, 1e-10));
  });
}

TEST(MoELayer, UnknownModulesInItsSlotsAreErrors) {
  const TransformerConfig config = moe_config(4, 2);
  ModuleSpec spec = moe_layer_spec(config);
  spec.submodules["experts"].module = "GroupedMLPs";
  const auto groups = ProcessGroupCollection::single_rank();
  const LayerOptions options{.tensor = at::TensorOptions(at::kFloat), .tp = groups.tp};
  EXPECT_THAT(
      [&] {
        feed_forward_modules().build({spec, config, options});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("TEGroupedMLP")));
}

}  // namespace
}  // namespace megatron
