// The same weights give the same logits and gradients through the layers of every spec, under the
// same parameter names; a checkpoint of one loads into another in another layout.
#include <filesystem>
#include <gmock/gmock.h>
#include <map>
#include <mutex>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/save_checkpoint.h"
#include "megatron/config/model/norm_keys.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/pipeline/pipeline_forward.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

constexpr const char* kSpecs[] = {"transformer_engine_layer_spec", "local_layer_spec",
                                  "transformer_engine_full_layer_spec",
                                  "modelopt_transformer_layer_spec"};

struct SpecVariant {
  const char* name;
  std::function<void(GPTModelConfig&)> apply;
  friend void PrintTo(const SpecVariant& variant, std::ostream* out) { *out << variant.name; }
};

const SpecVariant kSpecVariants[] = {
    {"layer_norm", [](GPTModelConfig&) {}},
    {"rms_norm_swiglu",
     [](GPTModelConfig& c) {
       c.transformer.normalization = Normalization::RMSNorm;
       c.transformer.gated_linear_unit = true;
       c.transformer.activation_func = ActivationFunction::silu;
       c.transformer.add_bias_linear = false;
       c.transformer.num_query_groups = 2;
       c.transformer.qk_layernorm = true;
     }},
    {"zero_centred_post_norm_residual",
     [](GPTModelConfig& c) {
       c.transformer.layernorm_zero_centered_gamma = true;
       c.transformer.apply_residual_connection_post_layernorm = true;
     }},
    {"l2_norm_recomputed",
     [](GPTModelConfig& c) {
       c.transformer.qk_l2_norm = true;
       c.transformer.recompute = {.recompute_granularity = RecomputeGranularity::selective,
                                  .recompute_modules = {"layernorm", "mlp"}};
     }},
    {"latent",
     [](GPTModelConfig& c) {
       use_latent_attention(c);
       c.position_embedding_type = PositionEmbeddingType::rope;
       c.transformer.mla.q_lora_rank = 6;
       c.transformer.qk_layernorm = true;
     }},
    {"latent_without_norms",
     [](GPTModelConfig& c) {
       use_latent_attention(c);
       c.position_embedding_type = PositionEmbeddingType::rope;
     }},
    {"multi_token_prediction", [](GPTModelConfig& c) { c.transformer.mtp.mtp_num_layers = 1; }}};

GPTModelConfig spec_config(const SpecVariant& variant, const char* spec, at::ScalarType dtype) {
  GPTModelConfig config = small_gpt_config();
  config.seq_length = 8;
  config.transformer.params_dtype = dtype;
  config.transformer.bf16 = dtype == at::kBFloat16;
  config.transformer.init_method_std = 0.2;
  variant.apply(config);
  config.transformer_layer_spec = spec;
  return config;
}

// Norm weights and biases that are not their initial constants.
void perturb(GPTModel& model) {
  const at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : model.parameters()) {
    if (parameter->data.dim() != 1) continue;
    const int64_t start = static_cast<int64_t>(std::hash<std::string>()(parameter->name) % 97);
    parameter->data.add_(0.3 * at::sin(at::arange(start, start + parameter->data.numel())));
  }
}

struct SpecRun {
  at::Tensor logits;
  std::map<std::string, at::Tensor> gradients;
};

SpecRun run_spec(const GPTModelConfig& config, at::ScalarType parameter_dtype) {
  const LayerSpec spec = resolve_layer_spec(config, PipelineStage::even(2, 0, 1));
  GPTModel model(config, spec, PipelineStage::even(2, 0, 1), ProcessGroupCollection::single_rank(),
                 at::TensorOptions(parameter_dtype), mtp_block_spec(config, spec));
  initialize_weights(model, 1234);
  perturb(model);
  GPTModelInput input = token_input(2, 8);
  SpecRun run;
  {
    const at::NoGradGuard no_grad;
    run.logits = model.forward(input, evaluation_context(2, 8)).to(at::kDouble);
  }
  input.labels = (input.input_ids + 7) % 100;
  input.loss_mask = at::ones({2, 8});
  model.forward(input, evaluation_context(2, 8)).mean().backward();
  for (const ParameterPtr& parameter : model.parameters()) {
    EXPECT_TRUE(parameter->data.grad().defined()) << parameter->name;
    if (!parameter->data.grad().defined()) continue;
    EXPECT_EQ(parameter->data.grad().scalar_type(), parameter_dtype) << parameter->name;
    run.gradients[parameter->name] = parameter->data.grad().to(at::kDouble);
  }
  return run;
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm().clamp_min(1e-30)).item<double>();
}

// Gradients that are zero in exact arithmetic have no relative difference.
void expect_close_runs(const SpecRun& got, const SpecRun& want, double bound, const char* spec) {
  EXPECT_LE(relative_difference(got.logits, want.logits), bound) << spec;
  double largest = 0;
  for (const auto& [name, gradient] : want.gradients)
    largest = std::max(largest, gradient.norm().item<double>());
  ASSERT_EQ(got.gradients.size(), want.gradients.size()) << spec;
  for (const auto& [name, gradient] : want.gradients) {
    ASSERT_TRUE(got.gradients.contains(name)) << spec << ' ' << name;
    const double allowed = bound * std::max(gradient.norm().item<double>(), 0.05 * largest);
    EXPECT_LE((got.gradients.at(name) - gradient).norm().item<double>(), allowed)
        << spec << ' ' << name;
  }
}

class LayerSpecEquivalence : public testing::TestWithParam<SpecVariant> {};

TEST_P(LayerSpecEquivalence, SameLogitsGradientsAndNames) {
  for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 2e-5},
                                     std::pair{at::kBFloat16, 4e-2}}) {
    const SpecRun local = run_spec(spec_config(GetParam(), "local_layer_spec", dtype), dtype);
    for (const char* spec : kSpecs)
      expect_close_runs(run_spec(spec_config(GetParam(), spec, dtype), dtype), local, bound, spec);
  }
}

// use_transformer_engine_op_fuser: the MLP is one operator.
TEST_P(LayerSpecEquivalence, SameWithTheOpFuser) {
  for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 2e-5},
                                     std::pair{at::kBFloat16, 4e-2}}) {
    GPTModelConfig config = spec_config(GetParam(), "transformer_engine_layer_spec", dtype);
    if (config.transformer.apply_residual_connection_post_layernorm) return;  // it is refused
    const SpecRun want = run_spec(config, dtype);
    config.use_transformer_engine_op_fuser = true;
    EXPECT_EQ(transformer_engine_layer_spec(config).at("mlp").module, "TEFusedMLP");
    expect_close_runs(run_spec(config, dtype), want, bound, "op fuser");
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LayerSpecEquivalence, testing::ValuesIn(kSpecVariants),
                         [](const auto& info) { return std::string(info.param.name); });

// fp32 parameters with bf16 set: the whole layer computes in bf16, its gradients are fp32.
TEST(FullLayer, ComputesInBf16UnderAutocast) {
  for (const SpecVariant& variant : kSpecVariants) {
    GPTModelConfig config = spec_config(variant, "transformer_engine_full_layer_spec", at::kFloat);
    const SpecRun in_fp32 = run_spec(config, at::kFloat);
    config.transformer.bf16 = true;
    config.transformer.params_dtype = at::kBFloat16;
    const SpecRun autocast = run_spec(config, at::kFloat);
    const double off = relative_difference(autocast.logits, in_fp32.logits);
    EXPECT_GT(off, 1e-4) << variant.name;
    EXPECT_LT(off, 4e-2) << variant.name;
    expect_close_runs(autocast, in_fp32, 6e-2, variant.name);
    // The other layers compute in the dtype of their parameters.
    config.transformer_layer_spec = "transformer_engine_layer_spec";
    EXPECT_LT(relative_difference(run_spec(config, at::kFloat).logits, in_fp32.logits), 1e-5)
        << variant.name;
  }
}

// The page's map of sharded axes.
TEST(FullLayer, SplitsItsParametersAlongTheirAxes) {
  run_thread_world(2, [](RankContext& rank) {
    GPTModelConfig config = small_gpt_config();
    config.transformer.tensor_model_parallel_size = 2;
    config.transformer_layer_spec = "transformer_engine_full_layer_spec";
    const auto model = build_gpt(config, 1, make_model_groups(config.transformer, rank));
    const std::map<std::string, int> axes = {{"self_attention.linear_qkv.layer_norm_weight", -1},
                                             {"self_attention.linear_qkv.layer_norm_bias", -1},
                                             {"self_attention.linear_qkv.weight", 0},
                                             {"self_attention.linear_qkv.bias", 0},
                                             {"self_attention.linear_proj.weight", 1},
                                             {"self_attention.linear_proj.bias", -1},
                                             {"mlp.linear_fc1.layer_norm_weight", -1},
                                             {"mlp.linear_fc1.layer_norm_bias", -1},
                                             {"mlp.linear_fc1.weight", 0},
                                             {"mlp.linear_fc1.bias", 0},
                                             {"mlp.linear_fc2.weight", 1},
                                             {"mlp.linear_fc2.bias", -1}};
    std::map<std::string, int> built;
    const std::string layer = "decoder.layers.1.";
    for (const ParameterPtr& parameter : model->parameters()) {
      if (parameter->name.starts_with(layer))
        built[parameter->name.substr(layer.size())] = parameter->sharding.partition_dim;
    }
    EXPECT_EQ(built, axes);
  });
}

struct CheckpointLayout {
  const char* name;
  int64_t tp, pp;
  bool sequence_parallel;
};

constexpr CheckpointLayout kCheckpointLayouts[] = {
    {"tp2", 2, 1, false}, {"tp2_sp", 2, 1, true}, {"pp2", 1, 2, false}};

// Logits [b, s, v] of the model in the checkpoint.
at::Tensor logits_of_checkpoint(GPTModelConfig config, const CheckpointLayout& layout,
                                const std::string& directory) {
  config.transformer.tensor_model_parallel_size = layout.tp;
  config.transformer.pipeline_model_parallel_size = layout.pp;
  config.transformer.sequence_parallel = layout.sequence_parallel;
  at::Tensor logits;
  std::mutex mutex;
  std::map<std::string, int> left_out;  // keys of the checkpoint, and how many ranks have no place
  const int ranks = static_cast<int>(layout.tp * layout.pp);
  run_thread_world(ranks, [&](RankContext& rank) {
    const at::NoGradGuard no_grad;
    const ProcessGroupCollection groups = make_model_groups(config.transformer, rank);
    const GPTModelChunks chunks = build_gpt_model_chunks(config, groups, at::kCPU);
    CheckpointReader reader = CheckpointReader::open(directory);
    for (const std::string& key : reader.load(sharded_state_dict(chunks))) {
      const std::lock_guard lock(mutex);
      ++left_out[key];
    }
    for (const auto& chunk : chunks) chunk->synchronize_shared_embedding();
    GPTModelInput input = token_input(2, 8);
    input.runtime_gather_output = true;
    run_pipeline_forward(chunks,
                         {{.input = input,
                           .context = ForwardContext::make(
                               /*training=*/false, 0, at::arange(2, at::kLong), 8,
                               layout.sequence_parallel, groups.tp->rank(), groups.tp->size())}},
                         {.on_output = [&](int64_t, const at::Tensor& output) {
                           if (groups.tp->rank() == 0) logits = output.clone();
                           return output;
                         }});
  });
  for (const auto& [key, count] : left_out) EXPECT_LT(count, ranks) << key << " is left out";
  return logits;
}

class SpecCheckpoint : public testing::Test {
 protected:
  const TemporaryFolder folder_;
  const std::string directory_ = folder_.path();
};

TEST_F(SpecCheckpoint, LoadsIntoEveryOtherSpecInOtherLayouts) {
  for (const size_t v : {size_t{0}, size_t{4}}) {
    const SpecVariant& variant = kSpecVariants[v];
    for (const char* writer : kSpecs) {
      const GPTModelConfig written = spec_config(variant, writer, at::kDouble);
      const auto model = build_gpt(written);
      perturb(*model);
      const std::string folder = fmt::format("{}/{}-{}", directory_, variant.name, writer);
      save_checkpoint(folder, /*iteration=*/1, model->sharded_state_dict(), {},
                      *ProcessGroupCollection::single_rank().world);
      const at::NoGradGuard no_grad;
      const at::Tensor want = model->forward(token_input(2, 8), evaluation_context(2, 8));
      size_t next = 0;
      for (const char* reader : kSpecs) {
        if (reader == writer) continue;
        const CheckpointLayout& layout = kCheckpointLayouts[next++ % 3];
        const at::Tensor got =
            logits_of_checkpoint(spec_config(variant, reader, at::kDouble), layout, folder);
        EXPECT_LE(relative_difference(got, want), 1e-12)
            << variant.name << ": " << writer << " into " << reader << " in " << layout.name;
      }
    }
  }
}

// Before version 0.2 norms had names of their own.
TEST_F(SpecCheckpoint, LoadsOlderNamesOfNorms) {
  for (const size_t v : {size_t{0}, size_t{4}}) {
    const GPTModelConfig config =
        spec_config(kSpecVariants[v], "transformer_engine_layer_spec", at::kDouble);
    const auto model = build_gpt(config);
    perturb(*model);
    ShardedStateDict state = model->sharded_state_dict();
    int renamed = 0;
    for (ShardedTensor& tensor : state) {
      const auto older = standalone_norm_name(tensor.key);
      renamed += older.has_value();
      tensor.key = older.value_or(tensor.key);
    }
    EXPECT_EQ(renamed, v == 0 ? 8 : 12);
    const std::string folder = fmt::format("{}/older{}", directory_, v);
    save_checkpoint(folder, /*iteration=*/1, state, {},
                    *ProcessGroupCollection::single_rank().world);
    const at::NoGradGuard no_grad;
    const at::Tensor want = model->forward(token_input(2, 8), evaluation_context(2, 8));
    EXPECT_LE(relative_difference(logits_of_checkpoint(config, {"one", 1, 1, false}, folder), want),
              1e-14);
  }
}

}  // namespace
}  // namespace megatron
