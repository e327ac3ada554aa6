#include "megatron/models/gpt/gpt_model.h"

#include <cmath>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {
namespace {

// Megatron's own unit-test model: 2 layers, hidden 12, 4 heads, vocabulary 100, 4 positions.
GPTModelConfig small_config() {
  GPTModelConfig config;
  config.transformer.num_layers = 2;
  config.transformer.hidden_size = 12;
  config.transformer.num_attention_heads = 4;
  config.transformer.hidden_dropout = config.transformer.attention_dropout = 0;
  config.vocab_size = 100;
  config.should_pad_vocab = false;
  config.seq_length = 4;
  config.share_embeddings_and_output_weights = false;
  return config;
}

std::shared_ptr<GPTModel> build(const GPTModelConfig& config, uint64_t seed = 1234) {
  auto model = build_gpt_model(config, ProcessGroupCollection::single_rank(), at::kCPU);
  initialize_weights(*model, seed);
  return model;
}

GPTModelInput tokens_input(int64_t b, int64_t s, int64_t vocab) {
  return {.input_ids = (at::arange(b * s, at::kLong) * 13 % vocab).view({b, s}),
          .position_ids = at::arange(s, at::kLong).expand({b, s}).contiguous()};
}

ForwardContext evaluation_context(int64_t b, int64_t s) {
  return ForwardContext::make(/*training=*/false, 0, at::arange(b, at::kLong), s, false, 0, 1);
}

TEST(GPTModel, HasMegatronsParameterCount) {
  EXPECT_EQ(count_parameters(small_config()), 6240);
}

TEST(GPTModel, HasMegatronsParameterNames) {
  std::vector<std::string> names;
  for (const auto& parameter : build(small_config())->parameters())
    names.push_back(parameter->name);
  for (const char* name :
       {"embedding.word_embeddings.weight", "embedding.position_embeddings.weight",
        "decoder.layers.0.input_layernorm.weight", "decoder.layers.0.input_layernorm.bias",
        "decoder.layers.0.self_attention.linear_proj.weight",
        "decoder.layers.0.self_attention.linear_proj.bias",
        "decoder.layers.0.self_attention.linear_qkv.weight",
        "decoder.layers.0.self_attention.linear_qkv.bias",
        "decoder.layers.0.pre_mlp_layernorm.weight", "decoder.layers.0.mlp.linear_fc1.weight",
        "decoder.layers.0.mlp.linear_fc1.bias", "decoder.layers.0.mlp.linear_fc2.weight",
        "decoder.layers.1.mlp.linear_fc2.bias", "decoder.final_layernorm.weight",
        "output_layer.weight"}) {
    EXPECT_THAT(names, testing::Contains(name));
  }
  EXPECT_EQ(names.size(), 29);
}

TEST(GPTModel, GivesLogitsOrLossPerToken) {
  const auto model = build(small_config());
  const at::NoGradGuard no_grad;
  GPTModelInput input = tokens_input(3, 4, 100);
  EXPECT_EQ(model->forward(input, evaluation_context(3, 4)).sizes(), at::IntArrayRef({3, 4, 100}));
  input.labels = input.input_ids;
  EXPECT_EQ(model->forward(input, evaluation_context(3, 4)).sizes(), at::IntArrayRef({3, 4}));
}

// ln V + h std^2 / 2: the logits of an untrained model are N(0, h std^2) (the final norm makes
// |x|^2 = h).
TEST(GPTModel, StartsAtTheLossThatTheoryGives) {
  GPTModelConfig config = small_config();
  config.transformer.hidden_size = 256;
  config.transformer.init_method_std = 0.05;
  config.vocab_size = 2000;
  config.seq_length = 64;
  const auto model = build(config);
  const at::NoGradGuard no_grad;
  GPTModelInput input = tokens_input(32, 64, 2000);
  input.labels = (input.input_ids + 1) % 2000;
  const double loss = model->forward(input, evaluation_context(32, 64)).mean().item<double>();
  EXPECT_NEAR(loss, std::log(2000.0) + 256 * 0.05 * 0.05 / 2, 0.06);
}

TEST(GPTModel, InitialWeightsHaveMegatronsDistributions) {
  GPTModelConfig config = small_config();
  config.transformer.hidden_size = 256;
  const auto model = build(config);
  const auto std_of = [&](const std::string& name) {
    for (const auto& parameter : model->parameters()) {
      if (parameter->name == name) return parameter->data.std().item<double>();
    }
    return -1.0;
  };
  EXPECT_NEAR(std_of("decoder.layers.1.self_attention.linear_qkv.weight"), 0.02, 2e-4);
  EXPECT_NEAR(std_of("decoder.layers.1.mlp.linear_fc2.weight"), 0.02 / 2,
              1e-4);  // / sqrt(2 layers)
  EXPECT_NEAR(std_of("decoder.layers.0.self_attention.linear_proj.weight"), 0.02 / 2, 2e-4);
  EXPECT_EQ(std_of("decoder.final_layernorm.weight"), 0.0);
}

TEST(GPTModel, PaddingOfTheVocabularyDoesNotChangeTheLoss) {
  double losses[2];
  for (const bool padded : {false, true}) {
    GPTModelConfig config = small_config();
    config.should_pad_vocab = padded;
    const at::NoGradGuard no_grad;
    GPTModelInput input = tokens_input(2, 4, 100);
    input.labels = input.input_ids;
    losses[padded] = build(config)->forward(input, evaluation_context(2, 4)).mean().item<double>();
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6);
}

TEST(GPTModel, RefusesWrongInput) {
  const auto model = build(small_config());
  const at::NoGradGuard no_grad;
  GPTModelInput input = tokens_input(2, 4, 100);
  input.attention_mask = at::zeros({2, 1, 3, 4}, at::kBool);
  EXPECT_THAT([&] { model->forward(input, evaluation_context(2, 4)); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("[1 or 2, 1, 4, 4]")));
  input = tokens_input(2, 5, 100);
  EXPECT_THAT([&] { model->forward(input, evaluation_context(2, 5)); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("positions below 4")));
  input = tokens_input(2, 4, 100);
  input.labels = at::full({2, 4}, 100, at::kLong);
  EXPECT_THAT([&] { model->forward(input, evaluation_context(2, 4)); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("[0, 100), but got 100")));
}

}  // namespace
}  // namespace megatron
