#include "megatron/inference/sampling.h"

#include <cmath>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

// The choices of a batch of logits [b, v].
at::Tensor sample_tokens(const at::Tensor& logits, int64_t vocab_size, const SamplingParams& params,
                         int64_t position, const at::Tensor& known_ids = {}) {
  at::Tensor tokens = at::empty({logits.size(0)}, at::kLong);
  for (int64_t row = 0; row < logits.size(0); ++row) {
    tokens[row] = sample_token(logits[row], vocab_size, params,
                               {.row = row, .position = position, .known_ids = known_ids});
  }
  return tokens;
}

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

TEST(SampleTokens, MinPKeepsTokensOfThatFractionOfTheLargest) {
  const auto found = frequencies(kLogits, {.min_p = 0.4});  // 0.3 >= 0.4 x 0.5 > 0.15
  EXPECT_NEAR(found[0], 0.5 / 0.8, 0.015);
  EXPECT_EQ(found[2] + found[3], 0.0);
}

TEST(SampleTokens, PenaltiesAndBiasChangeTheChoice) {
  const at::Tensor logits = at::tensor({2.0f, 1.8f, -1.0f, -1.1f});
  const std::vector<int64_t> zero = {0}, two = {2};
  const auto choice = [&](const SamplingParams& params, const SamplingContext& context) {
    return sample_token(logits, 4, params, context);
  };
  EXPECT_EQ(choice({.temperature = 0}, {}), 0);
  EXPECT_EQ(choice({.temperature = 0, .repetition_penalty = 1.2}, {.prompt = zero}), 1);
  EXPECT_EQ(choice({.temperature = 0, .repetition_penalty = 1.2}, {.output = zero}), 1);
  // Presence counts in the output only.
  EXPECT_EQ(choice({.temperature = 0, .presence_penalty = 0.5}, {.prompt = zero}), 0);
  EXPECT_EQ(choice({.temperature = 0, .presence_penalty = 0.5}, {.output = zero}), 1);
  // A negative logit becomes more negative.
  EXPECT_EQ(
      choice({.temperature = 0, .repetition_penalty = 1.2, .logit_bias = {{0, -9.0}, {1, -9.0}}},
             {.prompt = two}),
      3);
  EXPECT_EQ(choice({.temperature = 0, .logit_bias = {{3, 4.0}}}, {}), 3);
}

TEST(SampleTokens, DrawsDependOnTheSample) {
  int different = 0;
  for (int position = 0; position < 50; ++position) {
    const auto draw_of = [&](int64_t row) {
      return sample_token(kLogits[0], 4, {.seed = 3}, {.row = row, .position = position});
    };
    different += draw_of(0) != draw_of(1);
  }
  EXPECT_GT(different, 10);
}

TEST(SampleTokens, ImpossibleValuesAreRefusedByName) {
  using testing::HasSubstr;
  const double nan = std::nan("");
  for (const auto& [params, name] : std::vector<std::pair<SamplingParams, const char*>>{
           {{.temperature = -0.5}, "temperature of at least 0, but got -0.5"},
           {{.temperature = nan}, "temperature"},
           {{.top_k = -1}, "top_k"},
           {{.top_p = 1.5}, "top_p between 0 and 1, but got 1.5"},
           {{.min_p = 2}, "min_p"},
           {{.repetition_penalty = 0}, "repetition_penalty above 0"},
           {{.presence_penalty = INFINITY}, "presence_penalty"},
           {{.logit_bias = {{4, 1.0}}}, "vocabulary size 4, but got id 4"},
           {{.logit_bias = {{1, nan}}}, "logit_bias"}}) {
    const SamplingParams& refused = params;
    EXPECT_THAT([&] { sample_token(kLogits[0], 4, refused, {}); },
                testing::ThrowsMessage<Error>(HasSubstr(name)));
  }
}

TEST(SampleTokens, LogitsThatAreNotFiniteAreAnError) {
  const at::Tensor logits = at::full({3}, std::nan(""));
  EXPECT_THROW(sample_token(logits, 3, {.temperature = 0}, {}), Error);
  EXPECT_THROW(sample_token(logits, 3, {}, {}), Error);
  const at::Tensor one = at::tensor({1.0f, std::nanf(""), 2.0f});
  EXPECT_THROW(sample_token(one, 3, {}, {}), Error);
}

TEST(TokenLogprobs, AreThoseOfTheUnchangedSoftmaxWithoutPadding) {
  const at::Tensor logits = at::tensor({1.0, 3.0, 2.0, 99.0});
  const at::Tensor expected = logits.narrow(0, 0, 3).log_softmax(0);
  const TokenLogprob found = token_logprob(logits, 3, 2, 2);
  EXPECT_EQ(found.token, 2);
  EXPECT_NEAR(found.logprob, expected[2].item<double>(), 1e-12);
  ASSERT_EQ(found.top.size(), 2u);
  EXPECT_EQ(found.top[0].first, 1);
  EXPECT_NEAR(found.top[0].second, expected[1].item<double>(), 1e-12);
  EXPECT_EQ(found.top[1].first, 2);
}

}  // namespace
}  // namespace megatron
