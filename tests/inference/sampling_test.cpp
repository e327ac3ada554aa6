#include "megatron/inference/sampling.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

// The relative frequency of each token over many positions.
std::vector<double> frequencies(const at::Tensor& logits, const SamplingParams& params,
                                int draws = 20000) {
  std::vector<double> counts(logits.size(1), 0.0);
  for (int i = 0; i < draws; ++i) {
    counts[sample_tokens(logits, logits.size(1), params, i)[0].item<int64_t>()] += 1.0 / draws;
  }
  return counts;
}

const at::Tensor kLogits = at::log(at::tensor({0.5, 0.3, 0.15, 0.05})).unsqueeze(0);

TEST(SampleTokens, GreedyChoosesTheLargestLogitAndNeverPadding) {
  const at::Tensor logits = at::tensor({0.1f, 3.0f, 2.0f, 9.0f}).unsqueeze(0);
  EXPECT_EQ(sample_tokens(logits, 3, {.temperature = 0}, 0).item<int64_t>(), 1);
  EXPECT_EQ(sample_tokens(logits, 3, {.top_k = 1}, 0).item<int64_t>(), 1);
}

TEST(SampleTokens, ChoosesKnownIdsOnly) {
  // Id 1 is a gap, ids from 3 on are beyond the tokenizer.
  const at::Tensor known = at::tensor({1, 0, 1}).to(at::kBool);
  const at::Tensor logits = at::tensor({1.0f, 9.0f, 2.0f, 9.0f, 9.0f}).unsqueeze(0);
  for (const SamplingParams& params :
       {SamplingParams{.temperature = 0}, {.top_k = 1}, {.top_k = 5}, {.top_p = 0.99}, {}}) {
    for (int64_t position = 0; position < 50; ++position) {
      const int64_t id = sample_tokens(logits, 5, params, position, known).item<int64_t>();
      EXPECT_TRUE(id == 0 || id == 2) << id;
    }
  }
  EXPECT_EQ(sample_tokens(logits, 5, {.temperature = 0}, 0, known).item<int64_t>(), 2);
  EXPECT_THROW(sample_tokens(logits, 5, {}, 0, at::zeros({3}, at::kBool)), Error);
}

TEST(SampleTokens, DrawsFromTheSoftmax) {
  const auto found = frequencies(kLogits, {.seed = 3});
  const double expected[] = {0.5, 0.3, 0.15, 0.05};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(found[i], expected[i], 0.015);
}

TEST(SampleTokens, TemperatureSharpens) {
  const auto found = frequencies(kLogits, {.temperature = 0.5});
  EXPECT_NEAR(found[0], 0.25 / (0.25 + 0.09 + 0.0225 + 0.0025), 0.015);
}

TEST(SampleTokens, TopKAndTopPKeepTheMostLikely) {
  const auto top_k = frequencies(kLogits, {.top_k = 2});
  EXPECT_NEAR(top_k[0], 0.5 / 0.8, 0.015);
  EXPECT_EQ(top_k[2] + top_k[3], 0.0);
  // The probability before the second token is 0.5, before the third 0.8: p = 0.6 keeps two, p =
  // 0.1 one.
  const auto top_p = frequencies(kLogits, {.top_p = 0.6});
  EXPECT_NEAR(top_p[1], 0.3 / 0.8, 0.015);
  EXPECT_EQ(top_p[2] + top_p[3], 0.0);
  EXPECT_NEAR(frequencies(kLogits, {.top_p = 0.1}, 200)[0], 1.0, 1e-9);
  EXPECT_THROW(sample_tokens(kLogits, 4, {.top_k = 2, .top_p = 0.5}, 0), Error);
}

TEST(SampleTokens, RepeatsForTheSameSeedAndPosition) {
  const SamplingParams params{.seed = 11};
  for (int position = 0; position < 50; ++position) {
    EXPECT_EQ(sample_tokens(kLogits, 4, params, position).item<int64_t>(),
              sample_tokens(kLogits, 4, params, position).item<int64_t>());
  }
}

}  // namespace
}  // namespace megatron
