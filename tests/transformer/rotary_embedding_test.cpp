// Frequencies of longer contexts, against values computed by transformers' formulas.
#include "megatron/transformer/rotary_embedding.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "megatron/models/common/model_rotary_embedding.h"

namespace megatron {
namespace {

GPTModelConfig rotary_config() {
  GPTModelConfig config;
  config.vocab_size = 64;
  config.seq_length = 32;
  config.position_embedding_type = PositionEmbeddingType::rope;
  config.transformer.num_layers = 2;
  config.transformer.hidden_size = 32;
  config.transformer.num_attention_heads = 4;
  return config;
}

// The angle per position of each pair, from the sine at position 1 of a row of `length` positions.
std::vector<double> angles(const GPTModelConfig& config, int64_t length, bool local = false) {
  const auto rotary = ModelRotaryEmbedding::make(config);
  const ModelRotaryEmbedding::Tokens tokens{
      .positions = at::ones({1}, at::kLong), .position_ids = {}, .row_length = length};
  const RotaryTable table = local ? rotary->local_table(tokens, at::kDouble, at::kCPU)
                                  : rotary->table(tokens, at::kDouble, at::kCPU);
  const at::Tensor tangent = at::atan2(table.sin[0], table.cos[0]);
  std::vector<double> result;
  for (int64_t i = 0; i < tangent.size(0) / 2; ++i) result.push_back(tangent[i].item<double>());
  return result;
}

void expect_angles(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << i;
}

TEST(RotaryEmbedding, Llama3ScalesBetweenItsFactors) {
  // Wavelengths of 2 pi / f: scaled in full above 32 / 2, kept below 32 / 8, a ramp between.
  const auto scaled = llama3_rescaled(
      {2.0, 0.6, 0.1},
      {.factor = 4, .low_freq_factor = 2, .high_freq_factor = 8, .original_length = 32});
  EXPECT_DOUBLE_EQ(scaled[0], 2.0);
  const double smooth = (32 * 0.6 / (2 * std::numbers::pi) - 2) / 6;
  EXPECT_DOUBLE_EQ(scaled[1], (1 - smooth) * 0.6 / 4 + smooth * 0.6);
  EXPECT_DOUBLE_EQ(scaled[2], 0.1 / 4);
}

TEST(RotaryEmbedding, DynamicScalingGrowsTheBaseBeyondTheOriginalLength) {
  GPTModelConfig config = rotary_config();
  config.rope_dynamic_scaling_factor = 2;
  config.rope_scaling_original_max_position_embeddings = 10;
  expect_angles(angles(config, 10), rope_frequencies(8, 10000));
  // base * (2 * 25 / 10 - 1)^(8 / 6)
  const double base = 10000 * std::pow(4.0, 8.0 / 6.0);
  expect_angles(angles(config, 25), rope_frequencies(8, base));
}

TEST(RotaryEmbedding, LongropeTakesTheFactorsOfTheWholeSequence) {
  GPTModelConfig config = rotary_config();
  config.longrope_short_factor = {1, 1.5, 2, 3};
  config.longrope_long_factor = {2, 4, 8, 16};
  config.longrope_mscale = 1.25;
  config.rope_scaling_original_max_position_embeddings = 10;
  std::vector<double> shorter = rope_frequencies(8, 10000), longer = shorter;
  for (size_t i = 0; i < 4; ++i) {
    shorter[i] /= config.longrope_short_factor[i];
    longer[i] /= config.longrope_long_factor[i];
  }
  expect_angles(angles(config, 10), shorter);
  expect_angles(angles(config, 11), longer);
  const RotaryTable table = ModelRotaryEmbedding::make(config)->table(
      {.positions = at::zeros({1}, at::kLong), .position_ids = {}, .row_length = 5}, at::kDouble,
      at::kCPU);
  EXPECT_DOUBLE_EQ(table.cos[0][0].item<double>(), 1.25);
}

TEST(RotaryEmbedding, LayersWithAWindowKeepTheirOwnBase) {
  GPTModelConfig config = rotary_config();
  config.rotary_base = 500;
  config.seq_len_interpolation_factor = 4;
  EXPECT_FALSE(ModelRotaryEmbedding::make(config)
                   ->local_table({.positions = at::ones({1}, at::kLong), .position_ids = {}},
                                 at::kDouble, at::kCPU)
                   .defined());
  config.transformer.window_size = {3, 0};
  config.rotary_base_local = 20;
  std::vector<double> global = rope_frequencies(8, 500);
  for (double& frequency : global) frequency /= 4;
  expect_angles(angles(config, 32), global);
  expect_angles(angles(config, 32, /*local=*/true), rope_frequencies(8, 20));
}

TEST(RotaryEmbedding, YarnRotatesAPartOfTheHead) {
  GPTModelConfig config = rotary_config();
  config.position_embedding_type = PositionEmbeddingType::yarn;
  config.rotary_percent = 0.5;
  EXPECT_EQ(angles(config, 32).size(), 2u);
  expect_angles(angles(config, 32), yarn_frequencies(4, 10000, config.transformer.yarn));
}

}  // namespace
}  // namespace megatron
