// Unigram and bigram baselines in bits per byte.
#include "megatron/data/text_statistics.h"

#include <cmath>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/tokenizers/tokenizer_json.h"

#include "tests/data/golden.h"

namespace megatron {
namespace {

TEST(TextStatistics, AgreesWithHandCounts) {
  // a b a b: one bit per token by unigrams, none by bigrams; 1 + 3 bytes per pair.
  const std::vector<int64_t> tokens = {0, 1, 0, 1};
  const std::vector<int32_t> lengths = {1, 3};
  const TextStatistics result = text_statistics(tokens, lengths);
  EXPECT_EQ(result.tokens, 4);
  EXPECT_EQ(result.bytes, 8);
  EXPECT_DOUBLE_EQ(result.bytes_per_token, 2.0);
  EXPECT_DOUBLE_EQ(result.unigram_bits_per_byte, 0.5);
  EXPECT_DOUBLE_EQ(result.bigram_bits_per_byte, 0.0);
  EXPECT_THROW(text_statistics({}, lengths), Error);
  EXPECT_THROW(text_statistics(std::vector<int64_t>{2}, lengths), Error);
}

// Against the same sums computed in Python (tokenizers 0.22 and math.log2).
TEST(TextStatistics, AgreesOnTheExampleText) {
  const std::string text = slurp(std::string(EXAMPLES_DIR) + "/data/kjv.txt");
  const auto tokenizer = load_tokenizer_json(std::string(EXAMPLES_DIR) + "/data/tokenizer.json");
  const auto lengths = tokenizer->token_byte_lengths();
  const auto whole = text_statistics(tokenizer->encode(text), lengths);
  EXPECT_NEAR(whole.bytes_per_token, 3.9728247403349695, 1e-12);
  EXPECT_NEAR(whole.unigram_bits_per_byte, 2.178375369098022, 1e-9);
  EXPECT_NEAR(whole.bigram_bits_per_byte, 1.3363492990690373, 1e-9);

  const auto cut = static_cast<size_t>(static_cast<double>(text.size()) * 0.95);
  const NgramModel model(tokenizer->encode(text.substr(0, cut)), tokenizer->vocab_size());
  const auto held_out = tokenizer->encode(text.substr(cut));
  EXPECT_NEAR(model.unigram_bits_per_byte(held_out, lengths), 2.3072707870702094, 1e-4);
  EXPECT_NEAR(model.bigram_bits_per_byte(held_out, lengths), 1.718897962289284, 1e-3);
}

TEST(NgramModel, IsADistribution) {
  const std::vector<int64_t> tokens = {0, 1, 2, 0, 1, 1, 3, 0, 2};
  const std::vector<int32_t> lengths(5, 1);
  const NgramModel model(tokens, 5);
  for (const int64_t previous : {0, 1, 2, 3, 4}) {
    double sum = 0;
    for (int64_t token = 0; token < 5; ++token) {
      // Two tokens cost the unigram of the first and the bigram of the second.
      const double both =
          model.bigram_bits_per_byte(std::vector<int64_t>{previous, token}, lengths) * 2;
      const double first = model.unigram_bits_per_byte(std::vector<int64_t>{previous}, lengths);
      sum += std::exp2(first - both);
    }
    EXPECT_NEAR(sum, 1.0, 1e-12) << "after " << previous;
  }
}

TEST(BitsPerByte, ConvertsNats) {
  EXPECT_DOUBLE_EQ(bits_per_byte(std::log(2.0) * 8, 4), 2.0);
  EXPECT_THROW(bits_per_byte(1.0, 0), Error);
}

}  // namespace
}  // namespace megatron
