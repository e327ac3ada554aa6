// TEFusedMLP against the MLP of separate modules with the same parameters.
#include "megatron/transformer/te_fused_mlp.h"

#include <gmock/gmock.h>
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/transformer/module_registry.h"

#include "tests/ops/peak_memory.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

TransformerConfig mlp_config(ActivationFunction activation, bool gated, Normalization norm) {
  TransformerConfig config;
  config.num_layers = 1;
  config.hidden_size = 16;
  config.num_attention_heads = 2;
  config.activation_func = activation;
  config.gated_linear_unit = gated;
  config.normalization = norm;
  config.layernorm_zero_centered_gamma = norm == Normalization::RMSNorm;
  return config;
}

ModuleSpec mlp_spec(const std::string& module,
                    const std::string& fc1 = "TELayerNormColumnParallelLinear") {
  return {.module = module,
          .params = {},
          .submodules = {{"linear_fc1", {.module = fc1}},
                         {"linear_fc2", {.module = "TERowParallelLinear"}}},
          .sharded_state_dict_keys_map = {}};
}

LayerOptions mlp_options(const ProcessGroupPtr& tp, at::ScalarType dtype,
                         bool sequence_parallel = false) {
  return {.tensor = at::TensorOptions(dtype), .tp = tp, .sequence_parallel = sequence_parallel};
}

std::shared_ptr<FeedForward> build_mlp(const TransformerConfig& config, const ModuleSpec& spec,
                                       const LayerOptions& options) {
  const auto mlp = feed_forward_modules().build({spec, config, options});
  mlp->assign_names("mlp");
  const at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : mlp->parameters()) {
    const std::vector<int64_t> shape = parameter->global_shape();
    const double phase = static_cast<double>(std::hash<std::string>()(parameter->name) % 89);
    const at::Tensor values =
        at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * 0.7 + phase).view(shape);
    parameter->data.copy_(parameter->local_part(values * 0.4));
  }
  return mlp;
}

at::Tensor mlp_input(at::ScalarType dtype) {
  return at::sin(at::arange(12 * 2 * 16, at::kDouble) * 0.31).view({12, 2, 16}).to(dtype);
}

struct MlpRun {
  at::Tensor output, grad_x;
  std::map<std::string, at::Tensor> gradients;
};

MlpRun run_mlp(const FeedForward& mlp, const at::Tensor& input) {
  const at::Tensor x = input.detach().clone().requires_grad_();
  const OutputAndBias result = mlp.forward(x, ForwardContext{});
  torch::autograd::backward({result.output}, {at::cos(result.output.detach())});
  MlpRun run{result.output.detach(), x.grad(), {}};
  for (const ParameterPtr& parameter : mlp.parameters()) {
    // The caller adds linear_fc2's bias.
    if (parameter->data.grad().defined()) run.gradients[parameter->name] = parameter->data.grad();
  }
  return run;
}

void expect_near_mlp(const at::Tensor& got, const at::Tensor& want, double bound,
                     const std::string& what) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  const at::Tensor difference = (got.to(at::kDouble) - want.to(at::kDouble)).norm();
  EXPECT_LE(difference.item<double>(), bound * (1 + want.to(at::kDouble).norm().item<double>()))
      << what;
}

struct FusedMlpSetting {
  ActivationFunction activation;
  bool gated;
  Normalization norm;
};

const FusedMlpSetting kFusedMlpSettings[] = {
    {ActivationFunction::gelu, false, Normalization::LayerNorm},
    {ActivationFunction::gelu, true, Normalization::LayerNorm},
    {ActivationFunction::silu, true, Normalization::RMSNorm},
    {ActivationFunction::squared_relu, false, Normalization::RMSNorm},
    {ActivationFunction::quick_gelu, true, Normalization::RMSNorm},
    {ActivationFunction::openai_gelu, false, Normalization::LayerNorm}};

TEST(TEFusedMLP, HasTheParametersAndNumbersOfTheMLP) {
  const auto group = ProcessGroupCollection::single_rank().tp;
  for (const auto& [activation, gated, norm] : kFusedMlpSettings) {
    for (const bool bias : {true, false}) {
      for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 2e-6},
                                         std::pair{at::kBFloat16, 2e-2}}) {
        TransformerConfig config = mlp_config(activation, gated, norm);
        config.add_bias_linear = bias;
        const LayerOptions options = mlp_options(group, dtype);
        const auto fused = build_mlp(config, mlp_spec("TEFusedMLP"), options);
        const auto separate = build_mlp(config, mlp_spec("MLP"), options);
        ASSERT_NE(dynamic_cast<TEFusedMLP*>(fused.get()), nullptr);
        const auto got = fused->parameters(), want = separate->parameters();
        ASSERT_EQ(got.size(), want.size());
        for (size_t i = 0; i < want.size(); ++i) {
          EXPECT_EQ(got[i]->name, want[i]->name);
          EXPECT_EQ(got[i]->sharding.partition_stride, want[i]->sharding.partition_stride);
          EXPECT_EQ(got[i]->initialization.value, want[i]->initialization.value);
        }
        const MlpRun fused_run = run_mlp(*fused, mlp_input(dtype));
        const MlpRun separate_run = run_mlp(*separate, mlp_input(dtype));
        expect_near_mlp(fused_run.output, separate_run.output, bound, "output");
        expect_near_mlp(fused_run.grad_x, separate_run.grad_x, bound, "x");
        ASSERT_EQ(fused_run.gradients.size(), separate_run.gradients.size());
        for (const auto& [name, gradient] : separate_run.gradients)
          expect_near_mlp(fused_run.gradients.at(name), gradient, bound, name);
      }
    }
  }
}

TEST(TEFusedMLP, RecomputesTheWholeBlock) {
  const auto group = ProcessGroupCollection::single_rank().tp;
  TransformerConfig config = mlp_config(ActivationFunction::gelu, false, Normalization::LayerNorm);
  const LayerOptions options = mlp_options(group, at::kDouble);
  const MlpRun want =
      run_mlp(*build_mlp(config, mlp_spec("TEFusedMLP"), options), mlp_input(at::kDouble));
  config.recompute = {.recompute_granularity = RecomputeGranularity::selective,
                      .recompute_method = {},
                      .recompute_num_layers = {},
                      .recompute_modules = {"mlp"}};
  const MlpRun got =
      run_mlp(*build_mlp(config, mlp_spec("TEFusedMLP"), options), mlp_input(at::kDouble));
  EXPECT_TRUE(at::equal(got.output, want.output));
  EXPECT_TRUE(at::equal(got.grad_x, want.grad_x));
}

// The activation's output [t, f] is not kept: half of what the MLP of fused norm and linear keeps
// besides its output.
TEST(TEFusedMLP, KeepsLessThanTheMLP) {
  const auto group = ProcessGroupCollection::single_rank().tp;
  const TransformerConfig config =
      mlp_config(ActivationFunction::gelu, false, Normalization::LayerNorm);
  const LayerOptions options = mlp_options(group, at::kFloat);
  const at::Tensor x = mlp_input(at::kFloat).requires_grad_();
  const auto kept = [&](const char* module, const char* fc1) {
    const auto mlp = build_mlp(config, mlp_spec(module, fc1), options);
    return test::kept_bytes([&] { return mlp->forward(x, ForwardContext{}).output; });
  };
  const int64_t activations = 24 * config.ffn_size() * 4;
  const int64_t fused = kept("TEFusedMLP", "TELayerNormColumnParallelLinear");
  const int64_t separate = kept("MLP", "TELayerNormColumnParallelLinear");
  EXPECT_EQ(separate - fused, activations);
}

TEST(TEFusedMLP, MatchesOneRankOverTensorParallelRanks) {
  for (const auto& [activation, gated, norm] : kFusedMlpSettings) {
    const TransformerConfig config = mlp_config(activation, gated, norm);
    const auto alone =
        build_mlp(config, mlp_spec("TEFusedMLP"),
                  mlp_options(ProcessGroupCollection::single_rank().tp, at::kDouble));
    const MlpRun want = run_mlp(*alone, mlp_input(at::kDouble));
    run_thread_world(2, [&](RankContext& rank) {
      const auto groups = rank.make_groups({.tp = 2});
      for (const bool sequence_parallel : {false, true}) {
        const auto mlp = build_mlp(config, mlp_spec("TEFusedMLP"),
                                   mlp_options(groups.tp, at::kDouble, sequence_parallel));
        const auto shard = [&](const at::Tensor& whole) {
          return sequence_parallel ? whole.narrow(0, 6 * groups.tp->rank(), 6) : whole;
        };
        const MlpRun got = run_mlp(*mlp, shard(mlp_input(at::kDouble)));
        expect_near_mlp(got.output, shard(want.output), 1e-12, "output");
        expect_near_mlp(got.grad_x, shard(want.grad_x), 1e-12, "x");
        for (const ParameterPtr& parameter : mlp->parameters()) {
          if (!want.gradients.contains(parameter->name)) continue;
          at::Tensor gradient = got.gradients.at(parameter->name);
          if (parameter->sequence_parallel) groups.tp->all_reduce(gradient);
          expect_near_mlp(gradient, parameter->local_part(want.gradients.at(parameter->name)),
                          1e-12, parameter->name);
        }
      }
    });
  }
}

std::string error_of_mlp(const TransformerConfig& config, const ModuleSpec& spec) {
  try {
    feed_forward_modules().build(
        {spec, config, mlp_options(ProcessGroupCollection::single_rank().tp, at::kFloat)});
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(TEFusedMLP, RefusesWhatTheOperatorDoesNotDo) {
  using testing::HasSubstr;
  TransformerConfig config = mlp_config(ActivationFunction::gelu, false, Normalization::LayerNorm);
  EXPECT_THAT(error_of_mlp(config, mlp_spec("TEFusedMLP", "ColumnParallelLinear")),
              HasSubstr("Expected TELayerNormColumnParallelLinear as linear_fc1 of TEFusedMLP, but "
                        "got ColumnParallelLinear"));
  config.apply_residual_connection_post_layernorm = true;
  EXPECT_THAT(error_of_mlp(config, mlp_spec("TEFusedMLP")),
              HasSubstr("apply_residual_connection_post_layernorm=false"));
  config = mlp_config(ActivationFunction::squared_relu, true, Normalization::LayerNorm);
  EXPECT_THAT(error_of_mlp(config, mlp_spec("TEFusedMLP")), HasSubstr("got squared_relu"));
  config = mlp_config(ActivationFunction::silu, false, Normalization::LayerNorm);
  EXPECT_THAT(error_of_mlp(config, mlp_spec("TEFusedMLP")), HasSubstr("got silu"));
}

}  // namespace
}  // namespace megatron
