// SentencePiece models against the Python package's ids and texts.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/tokenizers/sentencepiece_check.h"
#include "megatron/tokenizers/sentencepiece_tokenizer.h"

#include "tests/tokenizers/generated_texts.h"
#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Tokenizer> load_spm(const char* file) {
  return load_sentencepiece(tokenizer_golden_path(file), "SentencePieceTokenizer");
}

TEST(SentencePieceTokenizer, AgreesWithThePythonPackage) {
  for (const char* file : {"spm.model", "unigram.model", "bpe.model"}) {
    SCOPED_TRACE(file);
    expect_digests(*load_spm(file), tokenizer_golden()["sentencepiece"][file]);
  }
}

TEST(SentencePieceTokenizer, AgreesOnStoredSamples) {
  for (const std::string name : {"spm", "llama_tiny"}) {
    const auto tokenizer = load_spm((name + ".model").c_str());
    const auto expected =
        nlohmann::json::parse(slurp(tokenizer_golden_path(name + "_samples.json")));
    ASSERT_GT(expected["samples"].size(), 10u);
    for (const auto& sample : expected["samples"]) {
      const auto ids = sample["ids"].get<std::vector<int64_t>>();
      EXPECT_EQ(tokenizer->encode(sample["text"].get<std::string>()), ids) << sample["text"];
      if (sample.contains("decoded")) {
        EXPECT_EQ(tokenizer->decode(ids), sample["decoded"]);
      }
    }
  }
}

TEST(SentencePieceTokenizer, ReportsVocabularyAndEod) {
  const auto tokenizer = load_spm("spm.model");
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  EXPECT_EQ(tokenizer->eod(), 2);
  EXPECT_EQ(tokenizer->token_bytes(1), "<s>");
  EXPECT_EQ(tokenizer->token_bytes(3 + 0x0A), "\n");
  EXPECT_EQ(tokenizer->token_bytes(22557), " Hello");
  const std::vector<int64_t> ids = {22557, 1526};
  EXPECT_EQ(tokenizer->decode(ids), "Hello world");
  EXPECT_EQ(tokenizer->continuation(ids), " Hello world");
  EXPECT_EQ(tokenizer->last_safe_cut("many words and spaces", 20), 0u);
  EXPECT_EQ(sentencepiece_bos(*tokenizer), 1);
  EXPECT_THROW(tokenizer->token_bytes(32000), Error);
  EXPECT_THROW(tokenizer->decode(std::vector<int64_t>{40000}), Error);
}

TEST(SentencePieceTokenizer, AcceptsAnyBytes) {
  const auto tokenizer = load_spm("spm.model");
  for (const auto& text :
       {std::string("\0a\xff\xc3(", 5), std::string("\xe2\x82"), std::string()}) {
    EXPECT_NO_THROW(tokenizer->decode(tokenizer->encode(text)));
  }
}

TEST(SentencePieceTokenizer, RefusesOtherFiles) {
  TemporaryFolder folder;
  spill(folder / "a.model", "In the beginning");
  spill(folder / "empty.model", "");
  const auto load = [&](const std::string& file) {
    return error_of([&] { load_sentencepiece(folder / file, "Llama2Tokenizer"); });
  };
  EXPECT_THAT(load("a.model"), HasSubstr("to be a SentencePiece model"));
  EXPECT_THAT(load("empty.model"), HasSubstr("empty.model"));
  EXPECT_THAT(load("missing.model"), HasSubstr("missing.model"));
}

// Most of the damage is in the character map, near the end of the file.
TEST(SentencePieceTokenizer, SurvivesDamagedFiles) {
  const std::string model = slurp(tokenizer_golden_path("unigram.model"));
  ASSERT_TRUE(is_safe_sentencepiece_model(model));
  uint64_t random = 1;
  int loaded = 0;
  for (int round = 0; round < 400; ++round) {
    std::string damaged = model;
    for (int i = 0; i < 3; ++i) {
      random = random * 6364136223846793005 + 1442695040888963407;
      const size_t part = round % 2 == 0 ? damaged.size() : damaged.size() / 2;
      damaged[damaged.size() - 1 - (random >> 33) % part] = static_cast<char>(random >> 56);
    }
    if (round % 4 == 0) damaged.resize((random >> 33) % damaged.size());
    try {
      const auto tokenizer = make_sentencepiece(damaged, "damaged.model", "SentencePieceTokenizer");
      tokenizer->decode(tokenizer->encode("In the\u2460 e\u0301 beginning"));
      ++loaded;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(loaded, 0);
}

}  // namespace
}  // namespace megatron
