#include "megatron/inference/generate.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"

#include "tests/inference/inference_model.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

GPTModelConfig config_of(bool rope, int64_t query_groups) {
  GPTModelConfig config = inference_test_config(rope, query_groups);
  config.transformer.params_dtype = at::kDouble;
  return config;
}

std::shared_ptr<GPTModel> build(const GPTModelConfig& config, const RankContext& rank) {
  return inference_test_model(config, make_model_groups(config.transformer, rank));
}

const std::vector<int64_t> kPrompt = {3, 14, 15, 9, 2};

// Greedy continuation by full forward passes, without a cache.
std::vector<int64_t> continue_without_cache(GPTModel& model, int64_t tokens) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> ids = kPrompt;
  for (int64_t i = 0; i < tokens; ++i) {
    const auto s = static_cast<int64_t>(ids.size());
    const at::Tensor logits =
        model.forward({.input_ids = at::tensor(ids, at::kLong).unsqueeze(0),
                       .position_ids = at::arange(s, at::kLong).unsqueeze(0)},
                      ForwardContext::make(false, 0, at::zeros({1}, at::kLong), s, false, 0, 1));
    ids.push_back(
        logits[0][s - 1].narrow(0, 0, *model.config().vocab_size).argmax().item<int64_t>());
  }
  return {ids.begin() + kPrompt.size(), ids.end()};
}

// Compares cached greedy decoding in several layouts with one rank without a cache.
void expect_cached_decoding_in_layouts(GPTModelConfig config) {
  std::vector<int64_t> expected;
  run_thread_world(
      1, [&](RankContext& rank) { expected = continue_without_cache(*build(config, rank), 12); });
  for (const auto& [world, tp, pp] :
       {std::tuple{1, 1, 1}, {2, 2, 1}, {2, 1, 2}, {4, 2, 2}, {2, 1, 1}}) {
    config.transformer.tensor_model_parallel_size = tp;
    config.transformer.pipeline_model_parallel_size = pp;
    run_thread_world(world, [&](RankContext& rank) {
      const auto ours = generate({build(config, rank)}, {.prompt = kPrompt,
                                                         .num_samples = 2,
                                                         .max_new_tokens = 12,
                                                         .sampling = {.temperature = 0}});
      EXPECT_EQ(ours.at(0), expected) << "tp " << tp << " pp " << pp;
      EXPECT_EQ(ours.at(1), expected);
    });
  }
}

TEST(Generate, CachedDecodingEqualsFullForwardPassesInEveryLayout) {
  for (const bool rope : {false, true}) {
    for (const int64_t query_groups : {4, 2, 1}) {
      SCOPED_TRACE(testing::Message() << "rope " << rope << ", groups " << query_groups);
      expect_cached_decoding_in_layouts(config_of(rope, query_groups));
    }
  }
}

// The continuation passes the original length, where all cached keys change.
TEST(Generate, LongropeRotatesCachedKeysAgainInEveryLayout) {
  GPTModelConfig config = config_of(/*rope=*/true, /*query_groups=*/2);
  config.longrope_short_factor = {1, 1.2, 1.5, 2};
  config.longrope_long_factor = {3, 5, 7, 9};
  config.rope_scaling_original_max_position_embeddings = 9;
  expect_cached_decoding_in_layouts(config);
}

TEST(Generate, LatentAttentionDecodesFromEitherCacheInEveryLayout) {
  GPTModelConfig config = config_of(/*rope=*/true, /*query_groups=*/4);
  MultiLatentAttentionConfig& mla = config.transformer.mla;
  mla = {.multi_latent_attention = true,
         .q_lora_rank = 12,
         .kv_lora_rank = 16,
         .qk_head_dim = 8,
         .qk_pos_emb_head_dim = 4,
         .v_head_dim = 6};
  for (const bool latents : {false, true}) {
    SCOPED_TRACE(testing::Message() << "latents cached " << latents);
    mla.cache_mla_latents = latents;
    expect_cached_decoding_in_layouts(config);
  }
}

TEST(Generate, StopsAtTheEndToken) {
  run_thread_world(1, [&](RankContext& rank) {
    const auto model = build(config_of(true, 4), rank);
    const std::vector<int64_t> all = continue_without_cache(*model, 6);
    const auto ours = generate({model}, {.prompt = kPrompt,
                                         .max_new_tokens = 6,
                                         .end_token = all[2],
                                         .sampling = {.temperature = 0}});
    const auto end = std::ranges::find(all, all[2]) + 1;
    EXPECT_EQ(ours.at(0), std::vector<int64_t>(all.begin(), end));
  });
}

TEST(Generate, RefusesMoreKnownIdsThanTheVocabulary) {
  GenerateRequest request{.prompt = kPrompt, .max_new_tokens = 2};
  request.known_ids = at::ones({61}, at::kBool);
  EXPECT_NO_THROW(check_request(config_of(true, 4), request));
  request.known_ids = at::ones({62}, at::kBool);
  EXPECT_THROW(check_request(config_of(true, 4), request), Error);
}

TEST(Generate, MoreTokensThanLearnedPositionsIsAnError) {
  run_thread_world(1, [&](RankContext& rank) {
    const auto model = build(config_of(false, 4), rank);
    EXPECT_THROW(generate({model}, {.prompt = kPrompt, .max_new_tokens = 20}), Error);
    EXPECT_THROW(generate({model}, {.prompt = {}, .max_new_tokens = 2}), Error);
  });
}

}  // namespace
}  // namespace megatron
