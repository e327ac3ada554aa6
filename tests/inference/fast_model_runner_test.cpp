#include "megatron/inference/fast_model_runner.h"

#include <cmath>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

GPTModelConfig small_config() {
  GPTModelConfig config;
  config.vocab_size = 61;
  config.make_vocab_size_divisible_by = 4;
  config.should_pad_vocab = true;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = 300;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = 2;
  transformer.hidden_size = 48;
  transformer.num_attention_heads = 4;
  transformer.init_method_std = 0.15;
  transformer.hidden_dropout = transformer.attention_dropout = 0;
  return config;
}

GPTModelConfig gpt2_like() {
  return small_config();
}

GPTModelConfig llama_like() {
  GPTModelConfig config = small_config();
  config.position_embedding_type = PositionEmbeddingType::rope;
  config.rope_scaling = true;
  config.rope_scaling_original_max_position_embeddings = 64;
  config.share_embeddings_and_output_weights = false;
  TransformerConfig& transformer = config.transformer;
  transformer.num_query_groups = 2;
  transformer.normalization = Normalization::RMSNorm;
  transformer.gated_linear_unit = true;
  transformer.activation_func = ActivationFunction::silu;
  transformer.add_bias_linear = false;
  transformer.ffn_hidden_size = 72;
  return config;
}

void turn_off_rope_scaling(GPTModelConfig& config) {
  const GPTModelConfig defaults;
  config.rope_scaling = defaults.rope_scaling;
  config.rope_scaling_original_max_position_embeddings =
      defaults.rope_scaling_original_max_position_embeddings;
}

GPTModelConfig qwen3_like() {
  GPTModelConfig config = llama_like();
  turn_off_rope_scaling(config);
  config.transformer.qk_layernorm = true;
  config.transformer.kv_channels = 20;
  config.transformer.add_qkv_bias = true;
  return config;
}

// Windows on every second layer, sinks, and rotary pairs side by side on half of the features.
GPTModelConfig windowed() {
  GPTModelConfig config = llama_like();
  config.rotary_percent = 0.5;
  TransformerConfig& transformer = config.transformer;
  transformer.rotary_interleaved = true;
  transformer.window_size = {7, 0};
  transformer.window_attn_skip_freq = {2};
  transformer.softmax_type = SoftmaxType::learnable;
  return config;
}

GPTModelConfig gemma_like() {
  GPTModelConfig config = llama_like();
  config.share_embeddings_and_output_weights = true;
  config.rotary_base_local = 500;
  turn_off_rope_scaling(config);
  TransformerConfig& transformer = config.transformer;
  transformer.activation_func = ActivationFunction::openai_gelu;
  transformer.norm_placement = NormPlacement::around;
  transformer.layernorm_zero_centered_gamma = true;
  transformer.embedding_multiplier = std::sqrt(48.0);
  transformer.attn_logit_softcapping = 5.0;
  transformer.final_logit_softcapping = 3.0;
  transformer.window_size = {5, 0};
  transformer.window_attn_skip_freq = {2};
  return config;
}

GPTModelConfig neox_like(bool shares_norm) {
  GPTModelConfig config = small_config();
  config.position_embedding_type = PositionEmbeddingType::rope;
  config.rotary_percent = 0.5;
  config.share_embeddings_and_output_weights = false;
  config.transformer.use_parallel_residual = true;
  config.transformer.share_parallel_layernorm = shares_norm;
  config.transformer.residual_multiplier = 0.7;
  config.transformer.logit_multiplier = 1.5;
  return config;
}

std::vector<std::pair<const char*, GPTModelConfig>> families() {
  return {{"GPT-2", gpt2_like()},          {"Llama", llama_like()},
          {"Qwen3", qwen3_like()},         {"windows and sinks", windowed()},
          {"Gemma", gemma_like()},         {"GPT-NeoX", neox_like(false)},
          {"shared norm", neox_like(true)}};
}

std::shared_ptr<GPTModel> build_varied(const GPTModelConfig& config, const RankContext& rank) {
  auto model = build_gpt_model(config, make_model_groups(config.transformer, rank), at::kCPU);
  initialize_weights(*model, 5);
  // Constants at first; other values show whether they are used.
  uint64_t seed = 0;
  for (const ParameterPtr& parameter : model->parameters()) {
    ++seed;
    if (parameter->initialization.kind != Initialization::Kind::constant) continue;
    const at::Tensor waves = at::sin(at::arange(parameter->data.numel()) * 3.0 + double(seed));
    parameter->data.detach().add_(waves.view_as(parameter->data), 0.1);
  }
  return model;
}

std::vector<int64_t> ids_of(int64_t length, int64_t seed) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back((seed * 17 + i * i * 7 + i * 3) % 61);
  return ids;
}

// Logits [s, v] of the module path.
at::Tensor module_logits(GPTModel& model, const std::vector<int64_t>& ids) {
  const at::NoGradGuard no_grad;
  const auto s = static_cast<int64_t>(ids.size());
  return model
      .forward({.input_ids = at::tensor(ids, at::kLong).unsqueeze(0),
                .position_ids = at::arange(s, at::kLong).unsqueeze(0)},
               ForwardContext::make(false, 0, at::zeros({1}, at::kLong), s, false, 0, 1))[0]
      .narrow(1, 0, 61)
      .to(at::kFloat);
}

// A sequence and its own blocks.
struct BlockedPrompt {
  std::vector<int64_t> ids, blocks;

  StepRow row(int64_t first, int64_t count, RowLogits logits = RowLogits::all) const {
    return {.tokens = std::span(ids).subspan(first, count),
            .position = first,
            .blocks = blocks,
            .logits = logits};
  }
};

at::Tensor step_logits(FastModelRunner& runner, const std::vector<StepRow>& rows) {
  return runner.forward(rows).clone();
}

double largest_difference(const at::Tensor& got, const at::Tensor& want) {
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}

TEST(FastModelRunner, LogitsEqualThoseOfTheModules) {
  for (const auto& [name, config] : families()) {
    SCOPED_TRACE(name);
    run_thread_world(1, [&, &config = config](RankContext& rank) {
      const auto model = build_varied(config, rank);
      const BlockedPrompt sequence{ids_of(150, 1), {4, 1, 9, 0, 3, 7, 2, 8, 5, 6}};
      FastModelRunner runner(*model, {.block_size = 16, .num_blocks = 10});
      const at::Tensor expected = module_logits(*model, sequence.ids);
      EXPECT_LT(largest_difference(step_logits(runner, {sequence.row(0, 150)}), expected), 1e-5);
      // Token by token after a first chunk.
      FastModelRunner fresh(*model, {.block_size = 16, .num_blocks = 10});
      std::vector<at::Tensor> logits = {step_logits(fresh, {sequence.row(0, 120)})};
      for (int64_t i = 120; i < 150; ++i)
        logits.push_back(step_logits(fresh, {sequence.row(i, 1)}));
      EXPECT_LT(largest_difference(at::cat(logits), expected), 1e-5);
    });
  }
}

TEST(FastModelRunner, ChunksAndBatchesGiveTheBitsOfTheWholePromptAlone) {
  for (const auto& [name, config] : families()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE(testing::Message() << name << " " << c10::toString(dtype));
      run_thread_world(1, [&, &config = config](RankContext& rank) {
        const auto model = build_varied(config, rank);
        const FastModelRunnerOptions options{
            .block_size = 32, .num_blocks = 12, .weights = weight_format_of(dtype)};
        const BlockedPrompt a{ids_of(140, 1), {4, 1, 9, 0, 3}}, b{ids_of(133, 2), {7, 2, 8, 5, 6}};
        FastModelRunner alone(*model, options);
        const at::Tensor whole_a = step_logits(alone, {a.row(0, 140)}),
                         whole_b = step_logits(alone, {b.row(0, 133)});
        FastModelRunner together(*model, options);
        // A prompt in chunks beside another; then both decode.
        at::Tensor logits = step_logits(together, {a.row(0, 3), b.row(0, 129)});
        EXPECT_TRUE(at::equal(logits.narrow(0, 0, 3), whole_a.narrow(0, 0, 3)));
        EXPECT_TRUE(at::equal(logits.narrow(0, 3, 129), whole_b.narrow(0, 0, 129)));
        logits =
            step_logits(together, {b.row(129, 1, RowLogits::last), a.row(3, 131, RowLogits::none)});
        EXPECT_TRUE(at::equal(logits, whole_b.narrow(0, 129, 1)));
        for (int64_t i = 0; i < 3; ++i) {
          logits = step_logits(together, {a.row(134 + i, 1), b.row(130 + i, 1)});
          EXPECT_TRUE(at::equal(logits[0], whole_a[134 + i]));
          EXPECT_TRUE(at::equal(logits[1], whole_b[130 + i]));
        }
      });
    }
  }
}

TEST(FastModelRunner, Bf16AndFp16StayNearTheModules) {
  for (const auto& [name, config] : families()) {
    SCOPED_TRACE(name);
    run_thread_world(1, [&, &config = config](RankContext& rank) {
      const auto model = build_varied(config, rank);
      const BlockedPrompt sequence{ids_of(60, 1), {1, 0}};
      const at::Tensor expected = module_logits(*model, sequence.ids);
      for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
        FastModelRunner runner(
            *model, {.block_size = 32, .num_blocks = 2, .weights = weight_format_of(dtype)});
        const double difference =
            largest_difference(step_logits(runner, {sequence.row(0, 60)}), expected);
        EXPECT_LT(difference, dtype == at::kHalf ? 5e-3 : 5e-2);
        EXPECT_GT(difference, 1e-6);  // the weights were rounded
      }
    });
  }
}

// A hidden size of whole groups.
TEST(FastModelRunner, Int8AndInt4StayNearTheModules) {
  for (GPTModelConfig config : {gpt2_like(), qwen3_like()}) {
    config.transformer.hidden_size = 64;
    config.transformer.ffn_hidden_size = 96;
    config.transformer.kv_channels = 16;
    run_thread_world(1, [&](RankContext& rank) {
      const auto model = build_varied(config, rank);
      const BlockedPrompt sequence{ids_of(60, 1), {1, 0}};
      const at::Tensor expected = module_logits(*model, sequence.ids);
      const auto difference = [&](WeightFormat format) {
        FastModelRunner runner(*model, {.block_size = 32, .num_blocks = 2, .weights = format});
        const at::Tensor whole = step_logits(runner, {sequence.row(0, 60)});
        // A token alone has the bits of the whole prompt.
        EXPECT_TRUE(at::equal(step_logits(runner, {sequence.row(59, 1)})[0], whole[59]));
        return ((whole - expected).norm() / expected.norm()).item<double>();
      };
      const double int8 = difference(WeightFormat::int8), int4 = difference(WeightFormat::int4);
      EXPECT_LT(int8, 0.05);
      EXPECT_GT(int4, int8);
      EXPECT_LT(int4, 0.4);
    });
  }
}

TEST(FastModelRunner, ACopiedBlockContinuesTheSequence) {
  run_thread_world(1, [&](RankContext& rank) {
    const auto model = build_varied(llama_like(), rank);
    FastModelRunner runner(*model, {.block_size = 16, .num_blocks = 4});
    const BlockedPrompt first{ids_of(20, 1), {0, 1}}, second{ids_of(20, 1), {0, 3}};
    const at::Tensor expected = step_logits(runner, {first.row(0, 20)});
    runner.copy_block(1, 3);
    EXPECT_TRUE(at::equal(step_logits(runner, {second.row(19, 1)})[0], expected[19]));
  });
}

TEST(FastModelRunner, RefusesRowsThatDoNotFit) {
  run_thread_world(1, [&](RankContext& rank) {
    const auto model = build_varied(gpt2_like(), rank);
    FastModelRunner runner(*model, {.block_size = 16, .num_blocks = 30});
    BlockedPrompt sequence{ids_of(20, 1), {0, 1}};
    EXPECT_NO_THROW(step_logits(runner, {sequence.row(0, 20)}));
    sequence.blocks = {0};
    EXPECT_THROW(step_logits(runner, {sequence.row(0, 20)}), Error);
    sequence.blocks = {0, 30};
    EXPECT_THROW(step_logits(runner, {sequence.row(0, 20)}), Error);
    sequence.blocks = {0, 1};
    sequence.ids[3] = 64;
    EXPECT_THROW(step_logits(runner, {sequence.row(0, 20)}), Error);
    EXPECT_THROW(step_logits(runner, {sequence.row(0, 0)}), Error);
    BlockedPrompt longer{ids_of(301, 1), {}};
    for (int64_t i = 0; i < 19; ++i) longer.blocks.push_back(i);
    EXPECT_THROW(step_logits(runner, {longer.row(300, 1)}), Error);
  });
}

TEST(FastModelRunner, SaysWhyItCannotRunAModel) {
  const auto reason = [](const GPTModelConfig& config) {
    std::string result;
    run_thread_world(1, [&](RankContext& rank) {
      const auto model = build_varied(config, rank);
      result = reason_against_fast_runner(*model);
      if (!result.empty()) {
        EXPECT_THROW(FastModelRunner(*model, {.num_blocks = 4}), Error);
      }
    });
    return result;
  };
  EXPECT_EQ(reason(gpt2_like()), "");
  GPTModelConfig config = llama_like();
  config.transformer.attention_output_gate = true;
  EXPECT_THAT(reason(config), testing::HasSubstr("attention_output_gate"));
  config = llama_like();
  config.transformer.params_dtype = at::kDouble;
  EXPECT_THAT(reason(config), testing::HasSubstr("fp64"));
  config = llama_like();
  config.transformer.mla = {.multi_latent_attention = true,
                            .q_lora_rank = 12,
                            .kv_lora_rank = 16,
                            .qk_head_dim = 8,
                            .qk_pos_emb_head_dim = 4,
                            .v_head_dim = 6};
  config.transformer.num_query_groups.reset();
  turn_off_rope_scaling(config);
  EXPECT_THAT(reason(config), testing::HasSubstr("latent"));
}

}  // namespace
}  // namespace megatron
