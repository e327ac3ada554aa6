// Options whose output equals that of other options, bit for bit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/models/gpt/small_gpt.h"
#include "tests/ops/op_test.h"

namespace megatron {
namespace {

at::Tensor logits_with(const std::function<void(GPTModelConfig&)>& change) {
  const at::NoGradGuard no_grad;
  const GPTModelConfig config = attention_variant_config({"", change});
  return build_gpt(config)->forward(token_input(2, 16, 61), evaluation_context(2, 16));
}

void use_yarn(GPTModelConfig& config) {
  config.position_embedding_type = PositionEmbeddingType::yarn;
  config.transformer.yarn.original_max_position_embeddings = 8;
}

void use_mrope(GPTModelConfig& config) {
  config.position_embedding_type = PositionEmbeddingType::mrope;
  config.transformer.mrope_section = {2, 1, 1};
}

// Only rope interpolates positions and takes Llama 3.1's frequency scaling.
TEST(OptionEquivalence, ScalingsThatOtherPositionsIgnoreAreRefused) {
  const auto interpolate = [](GPTModelConfig& c) { c.seq_len_interpolation_factor = 4; };
  const auto scale = [](GPTModelConfig& c) { c.rope_scaling = true; };
  test::expect_error(
      [&] {
        logits_with([&](GPTModelConfig& c) {
          use_yarn(c);
          interpolate(c);
        });
      },
      "leave seq_len_interpolation_factor out");
  test::expect_error(
      [&] {
        logits_with([&](GPTModelConfig& c) {
          use_mrope(c);
          scale(c);
        });
      },
      "leave rope_scaling out");
  EXPECT_FALSE(at::equal(logits_with([](GPTModelConfig&) {}), logits_with(interpolate)));
  EXPECT_FALSE(at::equal(logits_with([](GPTModelConfig&) {}), logits_with(scale)));
}

TEST(OptionEquivalence, OpenaiGeluIsTheTanhForm) {
  for (const bool gated : {false, true}) {
    const auto with = [&](ActivationFunction function, bool fusion) {
      return logits_with([&](GPTModelConfig& c) {
        c.transformer.activation_func = function;
        c.transformer.gated_linear_unit = gated;
        c.transformer.bias_activation_fusion = fusion;
      });
    };
    const at::Tensor openai = with(ActivationFunction::openai_gelu, false);
    EXPECT_TRUE(at::equal(openai, with(ActivationFunction::gelu, true)));
    EXPECT_FALSE(at::equal(openai, with(ActivationFunction::gelu, false)));
  }
}

}  // namespace
}  // namespace megatron
