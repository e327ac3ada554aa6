#include "megatron/models/gpt/gpt_model.h"

#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/models/gpt/small_gpt.h"

namespace megatron {
namespace {

TEST(GPTModel, ParameterCountMatchesMegatron) {
  EXPECT_EQ(count_parameters(small_gpt_config()), 6240);
}

TEST(GPTModel, ParameterNamesMatchMegatron) {
  std::vector<std::string> names;
  for (const auto& parameter : build_gpt(small_gpt_config())->parameters())
    names.push_back(parameter->name);
  for (const char* name :
       {"embedding.word_embeddings.weight", "embedding.position_embeddings.weight",
        "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight",
        "decoder.layers.0.self_attention.linear_qkv.layer_norm_bias",
        "decoder.layers.0.self_attention.linear_proj.weight",
        "decoder.layers.0.self_attention.linear_proj.bias",
        "decoder.layers.0.self_attention.linear_qkv.weight",
        "decoder.layers.0.self_attention.linear_qkv.bias",
        "decoder.layers.0.mlp.linear_fc1.layer_norm_weight",
        "decoder.layers.0.mlp.linear_fc1.weight", "decoder.layers.0.mlp.linear_fc1.bias",
        "decoder.layers.0.mlp.linear_fc2.weight", "decoder.layers.1.mlp.linear_fc2.bias",
        "decoder.final_layernorm.weight", "output_layer.weight"}) {
    EXPECT_THAT(names, testing::Contains(name));
  }
  EXPECT_EQ(names.size(), 29);
}

TEST(GPTModel, ReturnsLogitsOrTokenLosses) {
  const auto model = build_gpt(small_gpt_config());
  const at::NoGradGuard no_grad;
  GPTModelInput input = token_input(3, 4, 100);
  EXPECT_EQ(model->forward(input, evaluation_context(3, 4)).sizes(), at::IntArrayRef({3, 4, 100}));
  input.labels = input.input_ids;
  EXPECT_EQ(model->forward(input, evaluation_context(3, 4)).sizes(), at::IntArrayRef({3, 4}));
}

TEST(GPTModel, VocabularyPaddingDoesNotChangeTheLoss) {
  double losses[2];
  for (const bool padded : {false, true}) {
    GPTModelConfig config = small_gpt_config();
    config.should_pad_vocab = padded;
    const at::NoGradGuard no_grad;
    GPTModelInput input = token_input(2, 4, 100);
    input.labels = input.input_ids;
    losses[padded] =
        build_gpt(config)->forward(input, evaluation_context(2, 4)).mean().item<double>();
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6);
}

}  // namespace
}  // namespace megatron
