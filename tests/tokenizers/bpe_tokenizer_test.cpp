// Byte-level BPE against ids from Hugging Face's tokenizers.
#include "megatron/tokenizers/bpe_tokenizer.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

#include "tests/data/sha256.h"
#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

TEST(Gpt2Tokenizer, AgreesWithHuggingFace) {
  expect_samples(gpt2(), "gpt2/expected.json");
}

TEST(Gpt2Tokenizer, AgreesWithHuggingFaceOnABook) {
  const auto expected = golden("gpt2/expected.json")["corpus"];
  const std::string text = kjv();
  const auto ids = gpt2().encode(text);
  ASSERT_EQ(ids.size(), expected["tokens"].get<size_t>());
  EXPECT_EQ(sha256_of_ids(ids), expected["sha256_u32le"].get<std::string>());
  EXPECT_EQ(gpt2().decode(ids), text);
}

TEST(Gpt2Tokenizer, ReportsVocabularyAndEod) {
  EXPECT_EQ(gpt2().vocab_size(), 50257);
  EXPECT_EQ(gpt2().eod(), 50256);
  EXPECT_EQ(gpt2().token_bytes(50256), "<|endoftext|>");
  EXPECT_EQ(gpt2().token_bytes(262), " the");
  EXPECT_EQ(gpt2().token_byte_lengths()[262], 4);
  EXPECT_EQ(gpt2().token_byte_lengths()[50256], 0);
  EXPECT_THROW(gpt2().token_bytes(50257), Error);
  EXPECT_THROW(gpt2().decode(std::vector<int64_t>{-1}), Error);
  EXPECT_NE(gpt2().fingerprint(), kjv4096().fingerprint());
  EXPECT_EQ(nlohmann::json::parse(gpt2().identifiers())["class"], "GPT2BPETokenizer");
}

TEST(TokenizerJson, AgreesWithHuggingFaceOnSmolLM2) {
  expect_samples(smollm2(), "smollm2/expected.json");
  EXPECT_EQ(smollm2().eod(), 0);
  EXPECT_EQ(smollm2().vocab_size(), 49152);
}

TEST(TokenizerJson, AgreesWithHuggingFaceOnATinyVocabulary) {
  const auto tokenizer = load_tokenizer_json(golden_path("hf_tiny/tokenizer.json"));
  expect_samples(*tokenizer, "hf_tiny/expected.json");
}

TEST(TokenizerJson, AgreesWithHuggingFaceOnABookWithTheExampleVocabulary) {
  const std::string text = kjv();
  const auto ids = kjv4096().encode(text);
  EXPECT_EQ(kjv4096().vocab_size(), 4096);
  EXPECT_EQ(ids.size(), 1045289u);
  EXPECT_EQ(sha256_of_ids(ids), "ff61db50e5f8b30071b3e00db8956e7a724db29edbf76e18da319295794e25bf");
  EXPECT_EQ(kjv4096().decode(ids), text);
  const auto lengths = kjv4096().token_byte_lengths();
  int64_t bytes = 0;
  for (const int64_t id : ids) bytes += lengths[static_cast<size_t>(id)];
  EXPECT_EQ(bytes, std::ssize(text));
}

// Both vocabularies cover all 256 bytes.
TEST(Tokenizer, DecodesInvalidUtf8) {
  std::vector<std::string> texts = {"\xff\xfe\xfd",
                                    "caf\xc3",
                                    "\xed\xa0\x80 surrogate",
                                    "\xf4\x90\x80\x80 too large",
                                    "over\xc0\xaflong",
                                    "\xe2\x82",
                                    "a\x80"
                                    "b\xbf"
                                    "c",
                                    std::string("\0\xff\0", 3),
                                    "\xf0\x9f\x98 cut emoji"};
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int j = 0; j < 50; ++j) text += static_cast<char>(random());
    texts.push_back(text);
  }
  for (const auto& text : texts) {
    for (const Tokenizer* tokenizer : {&gpt2(), &kjv4096()}) {
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
    }
  }
}

TEST(Tokenizer, CountsBytesWithoutAToken) {
  // SmolLM2 has no token for byte F1, which Hugging Face drops too.
  const auto encoder = smollm2().make_encoder();
  std::vector<int64_t> ids;
  encoder->encode("a\xf1", ids);
  EXPECT_EQ(ids, smollm2().encode("a"));
  encoder->encode("\xf1\x90\x80\x80", ids);  // valid UTF-8 in a plane without characters
  EXPECT_EQ(encoder->bytes_left_out(), 2);
}

TEST(Tokenizer, MergesLongWordsLikeShortOnes) {
  // Words around the length at which the heap takes over, against a plain loop over all pairs.
  nlohmann::json root = golden("hf_tiny/tokenizer.json");
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (const auto& merge : root["model"]["merges"]) {
    std::string left;
    std::string right;
    if (merge.is_array()) {
      left = merge[0];
      right = merge[1];
    } else {
      const std::string text = merge;
      left = text.substr(0, text.find(' '));
      right = text.substr(text.find(' ') + 1);
    }
    ranks.emplace(std::pair(left, right), ranks.size());
  }
  const auto tokenizer = load_tokenizer_json(golden_path("hf_tiny/tokenizer.json"));
  std::mt19937 random(3);
  for (const size_t size : {30u, 47u, 48u, 49u, 50u, 700u}) {
    std::string word;
    std::vector<std::string> symbols;
    for (size_t i = 0; i < size; ++i) {
      word += "theandbeginrlsoucaw"[random() % 19];
      symbols.emplace_back(1, word.back());
    }
    while (true) {
      size_t best = symbols.size();
      size_t best_rank = ranks.size();
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto found = ranks.find({symbols[i], symbols[i + 1]});
        if (found != ranks.end() && found->second < best_rank) {
          best = i;
          best_rank = found->second;
        }
      }
      if (best == symbols.size()) break;
      symbols[best] += symbols[best + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    std::vector<int64_t> expected;
    for (const auto& symbol : symbols) expected.push_back(root["model"]["vocab"][symbol]);
    EXPECT_EQ(tokenizer->encode(word), expected) << word;
  }
}

TEST(Tokenizer, EncodesAWordOfAMegabyteInReasonableTime) {
  // Quadratic merging would take hours.
  const std::string text(size_t{1} << 20, 'a');
  const auto ids = gpt2().encode(text);
  EXPECT_EQ(gpt2().decode(ids), text);
}

}  // namespace
}  // namespace megatron
