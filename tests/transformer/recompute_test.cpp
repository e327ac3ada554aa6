// Recomputation is bit-identical and reduces memory.
#include <atomic>
#include <span>

#include <ATen/ATen.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/models/gpt/gpt_layer_specs.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/train_step.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/module_registry.h"
#include "megatron/transformer/transformer_block.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"
#include "tests/training/wrapped_models.h"

namespace megatron {
namespace {

RecomputeConfig full(RecomputeMethod method, int64_t layers) {
  return {.recompute_granularity = RecomputeGranularity::full,
          .recompute_method = method,
          .recompute_num_layers = layers,
          .recompute_modules = {}};
}

RecomputeConfig selective(std::vector<std::string> modules) {
  return {.recompute_granularity = RecomputeGranularity::selective,
          .recompute_method = {},
          .recompute_num_layers = {},
          .recompute_modules = std::move(modules)};
}

struct Setting {
  const char* name;
  RecomputeConfig recompute;
};

const Setting kSettings[] = {
    {"uniform 1", full(RecomputeMethod::uniform, 1)},
    {"uniform 2", full(RecomputeMethod::uniform, 2)},  // the last group has one layer
    {"block 2", full(RecomputeMethod::block, 2)},
    {"selective", selective({})},
    {"layernorm", selective({"layernorm"})},
    {"mlp", selective({"mlp"})},
    {"all modules", selective({"core_attn", "layernorm", "mlp"})},
};

const Setting kLatentSettings[] = {
    {"uniform 2", full(RecomputeMethod::uniform, 2)},
    {"mla_up_proj", selective({"mla_up_proj"})},
    {"all modules", selective({"core_attn", "layernorm", "mlp", "mla_up_proj"})},
};

struct Layout {
  const char* name;
  int world;
  int64_t tp, pp;
  bool sequence_parallel;
};

constexpr Layout kLayouts[] = {{"one_rank", 1, 1, 1, false},
                               {"tp2", 2, 2, 1, false},
                               {"tp2_sp", 2, 2, 1, true},
                               {"pp2", 2, 1, 2, false},
                               {"tp2_sp_pp2", 4, 2, 2, true}};

constexpr int64_t kLayersPerStage = 3;

MultiLatentAttentionConfig latent_heads() {
  MultiLatentAttentionConfig mla;
  mla.multi_latent_attention = true;
  mla.q_lora_rank = 16;
  mla.kv_lora_rank = 12;
  mla.qk_head_dim = 8;
  mla.qk_pos_emb_head_dim = 4;
  mla.v_head_dim = 6;
  return mla;
}

// With dropout. The llama has query groups and apply_residual_connection_post_layernorm.
enum class Family { gpt2, llama, latent };

Options small_options(const Layout& layout, Family family, at::ScalarType dtype) {
  Options options;
  GPTModelConfig& config = options.model;
  config.vocab_size = 50;
  config.make_vocab_size_divisible_by = 8;
  config.seq_length = 16;
  config.share_embeddings_and_output_weights = family == Family::gpt2;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = kLayersPerStage * layout.pp;
  transformer.hidden_size = 32;
  transformer.num_attention_heads = 4;
  transformer.params_dtype = dtype;
  transformer.bf16 = dtype == at::kBFloat16;
  transformer.hidden_dropout = transformer.attention_dropout = 0.1;
  transformer.tensor_model_parallel_size = layout.tp;
  transformer.pipeline_model_parallel_size = layout.pp;
  transformer.sequence_parallel = layout.sequence_parallel;
  if (family == Family::gpt2) return options;
  config.position_embedding_type = PositionEmbeddingType::rope;
  transformer.qk_layernorm = true;
  if (family == Family::latent) {
    transformer.mla = latent_heads();
  } else {
    transformer.num_query_groups = 2;
    transformer.normalization = Normalization::RMSNorm;
    transformer.gated_linear_unit = true;
    transformer.activation_func = ActivationFunction::silu;
    transformer.add_bias_linear = false;
    transformer.apply_residual_connection_post_layernorm = true;
  }
  return options;
}

MicroBatch numbered_microbatch(const GPTModelConfig& config, int64_t index) {
  constexpr int64_t rows = 2;
  const int64_t s = config.seq_length;
  const at::Tensor text =
      ((at::arange(rows * (s + 1), at::kLong) + 97 * index) * 31 % 47).view({rows, s + 1});
  return {.tokens = text.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({rows, s}).contiguous(),
          .labels = text.narrow(1, 1, s).contiguous(),
          .loss_mask = at::ones({rows, s}),
          .attention_mask = {},
          .sample_ordinals = at::arange(index * rows, (index + 1) * rows, at::kLong)};
}

struct Numbers {
  std::vector<double> losses;
  std::map<std::string, at::Tensor> gradients,
      weights;  // gradients of the first step, weights after the third
};

Numbers train(const Options& options, const RankContext& rank) {
  const auto groups = make_model_groups(options.model.transformer, rank);
  const auto model = build_gpt_model(options.model, groups, rank.device);
  initialize_weights(*model, options.training.seed);
  TrainStep step(wrapped(model, options), options);
  Numbers numbers;
  for (int64_t i = 0; i < 3; ++i) {
    const std::vector<MicroBatch> microbatches = {numbered_microbatch(options.model, 2 * i),
                                                  numbered_microbatch(options.model, 2 * i + 1)};
    numbers.losses.push_back(
        step.forward_backward(microbatches, BatchSharing::whole_microbatches).loss);
    if (i == 0) {
      for (const ParameterPtr& parameter : step.parameters())
        numbers.gradients[parameter->name] = parameter->main_grad.clone();
    }
    step.optimizer().step(1e-3);
  }
  for (const ParameterPtr& parameter : step.parameters())
    numbers.weights[parameter->name] = parameter->data.detach().clone();
  return numbers;
}

void expect_same_bits(const Numbers& got, const Numbers& want, const std::string& what) {
  EXPECT_EQ(got.losses, want.losses) << what;
  for (const auto& [name, gradient] : want.gradients) {
    EXPECT_TRUE(at::equal(got.gradients.at(name), gradient)) << what << ", gradient of " << name;
    EXPECT_GT(gradient.abs().sum().item<double>(), 0) << name;
  }
  for (const auto& [name, weight] : want.weights)
    EXPECT_TRUE(at::equal(got.weights.at(name), weight)) << what << ", weight " << name;
}

class RecomputeLayouts : public testing::TestWithParam<std::tuple<Layout, at::ScalarType>> {};

TEST_P(RecomputeLayouts, AreBitIdenticalToNoRecomputation) {
  const auto [layout, dtype] = GetParam();
  for (const Family family : {Family::gpt2, Family::llama, Family::latent}) {
    const Options options = small_options(layout, family, dtype);
    const std::span<const Setting> settings =
        family == Family::latent ? std::span<const Setting>(kLatentSettings) : kSettings;
    run_thread_world(layout.world, [&](RankContext& rank) {
      const Numbers want = train(options, rank);
      for (const Setting& setting : settings) {
        Options again = options;
        again.model.transformer.recompute = setting.recompute;
        expect_same_bits(train(again, rank), want,
                         fmt::format("family {}, {}", static_cast<int>(family), setting.name));
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Table, RecomputeLayouts,
                         testing::Combine(testing::ValuesIn(kLayouts),
                                          testing::Values(at::kFloat, at::kBFloat16)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  c10::toString(std::get<1>(info.param));
                         });

// Current and peak bytes of tensors allocated by threads with this reporter.
class HeldMemory : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    const int64_t now = held += bytes;
    if (now > peak) peak = now;
  }
  bool memoryProfilingEnabled() const override { return true; }

  std::atomic<int64_t> held = 0, peak = 0;
};

class CountingAttention : public DotProductAttention {
 public:
  CountingAttention(const TransformerConfig& config, int64_t layer_number,
                    const LayerOptions& options, std::vector<int>& runs)
      : DotProductAttention(config, layer_number, options), run_(runs.at(layer_number - 1)) {}
  at::Tensor forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const LayerInput& input, const ForwardContext& context) const override {
    ++run_;
    return DotProductAttention::forward(q, k, v, input, context);
  }

 private:
  int& run_;
};

struct PassOptions {
  bool input_requires_grad = true, weights_require_grad = true, grad_mode = true;
  bool latent = false;       // multi-latent attention
  bool fused_norms = false;  // the Transformer Engine spec
};

// Memory of a pass through four layers, and how often each layer's attention runs.
class RecomputedBlock : public testing::Test {
 protected:
  static constexpr int64_t s = 64, b = 2, h = 32, n = 4, layers = 4;
  static constexpr int64_t state_bytes = s * b * h * sizeof(float);  // one [s, b, h]

  struct Pass {
    int64_t saved, peak;    // bytes held after forward; peak bytes
    std::vector<int> runs;  // by layer, forward and backward
    at::Tensor input_grad;
  };

  Pass run(const RecomputeConfig& recompute, const PassOptions& pass_options = {},
           const ProcessGroupPtr& tp = ProcessGroupCollection::single_rank().tp,
           const std::shared_ptr<HeldMemory>& memory = std::make_shared<HeldMemory>()) {
    const bool sequence_parallel = tp->size() > 1;
    TransformerConfig config;
    config.num_layers = layers;
    config.hidden_size = h;
    config.num_attention_heads = n;
    config.attention_backend = AttentionBackend::unfused;  // keeps the probabilities
    config.recompute = recompute;
    if (pass_options.latent) config.mla = latent_heads();
    Pass pass{.saved = 0, .peak = 0, .runs = std::vector<int>(layers), .input_grad = {}};
    GPTModelConfig model;
    model.transformer = config;
    ModuleSpec spec =
        pass_options.fused_norms ? transformer_engine_layer_spec(model) : local_layer_spec(config);
    static std::atomic<int> passes = 0;
    const std::string counting = fmt::format("CountingAttention{}", ++passes);
    core_attention_modules().add(
        counting, {.build = [&pass](const BuildArguments& arguments, const auto&) {
          return std::make_shared<CountingAttention>(arguments.config, arguments.layer_number,
                                                     arguments.options, pass.runs);
        }});
    if (!pass_options.latent)
      spec.submodules["self_attention"].submodules["core_attention"].module = counting;
    const LayerOptions options{at::TensorOptions(at::kFloat), tp, sequence_parallel};
    TransformerBlock block(config, spec, PipelineStage::even(layers, 0, 1), options);
    block.assign_names();
    initialize_weights(block, 7);
    for (const ParameterPtr& parameter : block.parameters())
      parameter->data.requires_grad_(pass_options.weights_require_grad);
    const at::Tensor x = at::sin(at::arange(s * b * h / tp->size(), at::kFloat))
                             .view({-1, b, h})
                             .requires_grad_(pass_options.input_requires_grad);
    const auto context = ForwardContext::make(/*training=*/true, 5, at::arange(b, at::kLong), s,
                                              sequence_parallel, tp->rank(), tp->size());

    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, memory);
    const at::AutoGradMode mode(pass_options.grad_mode);
    const at::Tensor output = block.forward(x, {}, context);
    tp->barrier();  // ranks as threads may free each other's buffers
    pass.saved = memory->held;
    tp->barrier();
    if (output.requires_grad()) output.sum().backward();
    pass.peak = memory->peak;
    pass.input_grad = x.grad();
    return pass;
  }
};

TEST_F(RecomputedBlock, FullKeepsOnlyTheInputOfEachGroup) {
  const Pass none = run({});
  EXPECT_EQ(none.runs, std::vector<int>(layers, 1));
  const Pass one = run(full(RecomputeMethod::uniform, 1));
  EXPECT_EQ(one.runs, std::vector<int>(layers, 2));
  // The output of each layer, and output and statistics of the final norm. The caller holds the
  // first input.
  EXPECT_LE(one.saved, (layers + 1) * state_bytes + 4096);
  EXPECT_LT(one.saved, none.saved / 8);
  EXPECT_LT(one.peak, none.peak / 2);
  const Pass two = run(full(RecomputeMethod::uniform, 2));
  EXPECT_EQ(two.saved, one.saved - 2 * state_bytes);
  EXPECT_EQ(two.runs, std::vector<int>(layers, 2));
  EXPECT_LT(two.peak, none.peak);
  const Pass block = run(full(RecomputeMethod::block, 3));
  EXPECT_EQ(block.runs, (std::vector<int>{2, 2, 2, 1}));
  EXPECT_GT(block.saved, one.saved);
  EXPECT_LT(block.saved, none.saved / 2);
  for (const Pass* pass : {&one, &two, &block})
    EXPECT_TRUE(at::equal(pass->input_grad, none.input_grad));
}

TEST_F(RecomputedBlock, SelectiveSavesTheActivationsOfItsModules) {
  const Pass none = run({});
  const auto saved_by = [&](const char* module) {
    const Pass pass = run(selective({module}));
    EXPECT_LT(pass.peak, none.peak) << module;
    EXPECT_TRUE(at::equal(pass.input_grad, none.input_grad)) << module;
    return none.saved - pass.saved;
  };
  // Attention probabilities; outputs of two norms; input and output of the activation, 4 h wide.
  EXPECT_GE(saved_by("core_attn"), layers * b * n * s * s * int64_t{sizeof(float)});
  EXPECT_GE(saved_by("layernorm"), layers * 2 * state_bytes);
  EXPECT_GE(saved_by("mlp"), layers * 8 * state_bytes);
  EXPECT_EQ(run(selective({"core_attn"})).runs, std::vector<int>(layers, 2));
  EXPECT_EQ(run(selective({"layernorm", "mlp"})).runs, std::vector<int>(layers, 1));
  const Pass all = run(selective({"core_attn", "layernorm", "mlp"}));
  EXPECT_GE(none.saved - all.saved,
            layers * (b * n * s * s * int64_t{sizeof(float)} + 10 * state_bytes));
  EXPECT_TRUE(at::equal(all.input_grad, none.input_grad));
}

// Fused norms keep their statistics but no normalized activations; recomputing them is accepted and
// changes nothing.
TEST_F(RecomputedBlock, FusedNormsKeepNoNormalizedActivations) {
  const Pass separate = run({});
  const Pass fused = run({}, {.fused_norms = true});
  EXPECT_GE(separate.saved - fused.saved, layers * 2 * state_bytes);
  constexpr int64_t statistics_bytes = layers * 2 * 2 * s * b * sizeof(float);  // mean, rstd
  EXPECT_LE(fused.saved, run(selective({"layernorm"})).saved + statistics_bytes);
  EXPECT_TRUE(at::allclose(fused.input_grad, separate.input_grad, 1e-5, 1e-6));
  const Pass recomputed = run(selective({"layernorm"}), {.fused_norms = true});
  EXPECT_EQ(recomputed.saved, fused.saved);
  EXPECT_TRUE(at::equal(recomputed.input_grad, fused.input_grad));
  const Pass mlp = run(selective({"mlp"}), {.fused_norms = true});
  EXPECT_GE(fused.saved - mlp.saved, layers * 8 * state_bytes);
  EXPECT_TRUE(at::equal(mlp.input_grad, fused.input_grad));
}

TEST_F(RecomputedBlock, MlaUpProjectionSavesQueriesKeysAndValues) {
  const PassOptions latent{.latent = true};
  const Pass none = run({}, latent), up = run(selective({"mla_up_proj"}), latent);
  const Pass both = run(selective({"core_attn", "mla_up_proj"}), latent);
  // Queries, keys, and the projection output that contains the values.
  const int64_t head_widths = 12 + 12 + 14;
  const int64_t heads_bytes = layers * s * b * n * head_widths * int64_t{sizeof(float)};
  EXPECT_GE(none.saved - up.saved, heads_bytes);
  EXPECT_GE(none.saved - both.saved, heads_bytes + layers * b * n * s * s * int64_t{sizeof(float)});
  EXPECT_TRUE(at::equal(up.input_grad, none.input_grad));
  EXPECT_TRUE(at::equal(both.input_grad, none.input_grad));
}

// The gathered norm outputs are not kept either.
TEST_F(RecomputedBlock, LayernormSavesGatheredSequences) {
  const auto kept = std::make_shared<HeldMemory>(), recomputed = std::make_shared<HeldMemory>();
  run_thread_world(2, [&](RankContext& rank) {
    const auto tp = rank.make_groups({.tp = 2}).tp;
    const Pass none = run({}, {}, tp, kept);
    const Pass norms = run(selective({"layernorm"}), {}, tp, recomputed);
    EXPECT_GE(none.saved - norms.saved, 2 * layers * 2 * state_bytes);  // on both ranks
    EXPECT_TRUE(at::equal(norms.input_grad, none.input_grad));
  });
}

TEST_F(RecomputedBlock, RunsOnceWithoutGradients) {
  for (const Setting& setting : kSettings) {
    const Pass frozen =
        run(setting.recompute, {.input_requires_grad = false, .weights_require_grad = false});
    EXPECT_EQ(frozen.runs, std::vector<int>(layers, 1)) << setting.name;
    const Pass evaluation = run(setting.recompute, {.grad_mode = false});
    EXPECT_EQ(evaluation.runs, std::vector<int>(layers, 1)) << setting.name;
  }
}

TEST_F(RecomputedBlock, WorksWithGradientsOfInputOrWeightsOnly) {
  const Pass want = run({});
  for (const Setting& setting : kSettings) {
    const Pass input_only = run(setting.recompute, {.weights_require_grad = false});
    EXPECT_TRUE(at::equal(input_only.input_grad, want.input_grad)) << setting.name;
    const Pass weights_only = run(setting.recompute, {.input_requires_grad = false});
    EXPECT_EQ(weights_only.runs, run(setting.recompute).runs) << setting.name;
    EXPECT_FALSE(weights_only.input_grad.defined());
  }
}

}  // namespace
}  // namespace megatron
