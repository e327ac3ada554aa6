// The tokenizers that the options select, those without files, and vocab.json with merges.txt.
#include "megatron/tokenizers/build_tokenizer.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/config/model/enum_names.h"
#include "megatron/tokenizers/byte_tokenizer.h"

#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

TEST(VocabMerges, RefusesOtherFiles) {
  TemporaryFolder folder;
  spill(folder / "vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  spill(folder / "merges.txt", "#version: 0.2\na b\n");
  EXPECT_EQ(load_vocab_merges(folder / "vocab.json", folder / "merges.txt")->encode("abb"),
            (std::vector<int64_t>{2, 1}));
  spill(folder / "bad.txt", "#version: 0.2\na b c\n");
  EXPECT_THAT(error_of([&] { load_vocab_merges(folder / "vocab.json", folder / "bad.txt"); }),
              HasSubstr("line 2"));
  spill(folder / "other.txt", "b a\n");
  EXPECT_THAT(error_of([&] { load_vocab_merges(folder / "vocab.json", folder / "other.txt"); }),
              HasSubstr("'ba'"));
  EXPECT_THAT(error_of([&] { load_vocab_merges(folder / "merges.txt", folder / "merges.txt"); }),
              HasSubstr("not valid JSON"));
  spill(folder / "list.json", "[]");
  EXPECT_THAT(error_of([&] { load_vocab_merges(folder / "list.json", folder / "merges.txt"); }),
              HasSubstr("vocab.json"));
}

TEST(ByteTokenizer, MapsBytesToThemselves) {
  const ByteTokenizer tokenizer;
  EXPECT_EQ(tokenizer.encode("a\xff"), (std::vector<int64_t>{97, 255}));
  EXPECT_EQ(tokenizer.decode(std::vector<int64_t>{97, 255, 0}), std::string("a\xff\0", 3));
  EXPECT_EQ(tokenizer.vocab_size(), 257);
  EXPECT_EQ(tokenizer.eod(), 256);
  EXPECT_EQ(tokenizer.token_byte_lengths()[255], 1);
  EXPECT_EQ(tokenizer.token_byte_lengths()[256], 0);
}

TEST(NullTokenizer, ReadsIds) {
  const NullTokenizer tokenizer(100);
  EXPECT_EQ(tokenizer.encode(" 5 0\n100 "), (std::vector<int64_t>{5, 0, 100}));
  EXPECT_EQ(tokenizer.vocab_size(), 101);
  EXPECT_EQ(tokenizer.eod(), 100);
  EXPECT_THROW(tokenizer.encode("101"), Error);
  EXPECT_THROW(tokenizer.encode("x"), Error);
}

TEST(BuildTokenizer, SelectsTheTypeByTheFiles) {
  TokenizerConfig config;
  EXPECT_THAT(error_of([&] { build_tokenizer(config); }), HasSubstr("--tokenizer-model"));
  config.vocab_file = golden_path("gpt2/vocab.json");
  EXPECT_THAT(error_of([&] { build_tokenizer(config); }), HasSubstr("--merge-file"));
  config.merge_file = golden_path("gpt2/merges.txt");
  EXPECT_EQ(build_tokenizer(config)->vocab_size(), 50257);
  config.tokenizer_model = golden_path("hf_tiny/tokenizer.json");
  EXPECT_THAT(error_of([&] { build_tokenizer(config); }), HasSubstr("one tokenizer"));
  config = {};
  config.tokenizer_model = golden_path("hf_tiny/tokenizer.json");
  EXPECT_EQ(build_tokenizer(config)->vocab_size(), 512);
  config.tokenizer_type = TokenizerType::ByteTokenizer;
  EXPECT_THAT(error_of([&] { build_tokenizer(config); }), HasSubstr("leave it out"));
  config = {};
  config.tokenizer_type = TokenizerType::NullTokenizer;
  EXPECT_EQ(build_tokenizer(config, 64)->vocab_size(), 65);
  Options options;
  options.tokenizer = config;
  options.model.vocab_size = 64;
  const std::string trained_with = build_run_tokenizer(options)->fingerprint();
  EXPECT_EQ(options.model.vocab_size, 65);
  EXPECT_EQ(build_model_tokenizer(options)->fingerprint(), trained_with);
  EXPECT_THAT(error_of([&] { build_tokenizer(config); }), HasSubstr("--vocab-size"));
}

TEST(BuildTokenizer, SelectsTheTypeByTheEndOfTheName) {
  const auto type_of = [](const char* model) {
    return tokenizer_type_of({.tokenizer_model = model});
  };
  EXPECT_EQ(type_of("a/tokenizer.json"), TokenizerType::HuggingFaceTokenizer);
  EXPECT_EQ(type_of("a/folder"), TokenizerType::HuggingFaceTokenizer);
  EXPECT_EQ(type_of("a/tokenizer.model"), TokenizerType::SentencePieceTokenizer);
  EXPECT_EQ(type_of("o200k.tiktoken"), TokenizerType::TikTokenizer);
  EXPECT_EQ(type_of(""), TokenizerType::GPT2BPETokenizer);
}

TEST(BuildTokenizer, ReadsEveryType) {
  TokenizerConfig config;
  config.tokenizer_model = std::string(TEST_DATA_DIR) + "/tokenizer/llama_tiny.model";
  for (const auto type :
       {TokenizerType::SentencePieceTokenizer, TokenizerType::GPTSentencePieceTokenizer,
        TokenizerType::Llama2Tokenizer}) {
    config.tokenizer_type = type;
    const auto tokenizer = build_tokenizer(config);
    EXPECT_EQ(tokenizer->vocab_size(), 512);
    EXPECT_THAT(tokenizer->identifiers(), HasSubstr(std::string(enum_name(type))));
  }
  config.vocab_file = "vocab.json";
  EXPECT_THAT(error_of([&] { build_tokenizer(config); }), HasSubstr("leave them out"));
  config = {.tokenizer_type = TokenizerType::TikTokenizer};
  EXPECT_THAT(error_of([&] { build_tokenizer(config); }), HasSubstr("a tiktoken vocabulary"));
  config.tokenizer_model = std::string(TEST_DATA_DIR) + "/tokenizer/word_piece.json";
  EXPECT_THAT(error_of([&] { build_tokenizer(config); }), HasSubstr("HuggingFaceTokenizer reads"));
  config.tokenizer_type = TokenizerType::HuggingFaceTokenizer;
  config.tokenizer_hf_include_special_tokens = true;
  EXPECT_EQ(build_tokenizer(config)->encode("the").front(), 2);
}

// A vocabulary of the 256 bytes, two pairs of them, and 9 special tokens.
TEST(BuildTokenizer, CutsATikTokenVocabularyToTheModel) {
  TemporaryFolder folder;
  nlohmann::json list = nlohmann::json::array();
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int rank = 0; rank < 256; ++rank) {
    const std::string text = {kDigits[rank >> 2], kDigits[(rank & 3) << 4], '=', '='};
    list.push_back({{"rank", rank}, {"token_bytes", text}, {"token_str", ""}});
  }
  list.push_back({{"rank", 256}, {"token_bytes", "YWI="}, {"token_str", "ab"}});
  list.push_back({{"rank", 257}, {"token_bytes", "YmM="}, {"token_str", "bc"}});
  spill(folder / "vocab.json", list.dump());
  Options options;
  options.tokenizer = {.tokenizer_type = TokenizerType::TikTokenizer,
                       .tokenizer_model = folder / "vocab.json",
                       .tiktoken_num_special_tokens = 9};
  EXPECT_EQ(build_run_tokenizer(options)->encode("abc"), (std::vector<int64_t>{265, 9 + 'c'}));
  EXPECT_EQ(options.model.vocab_size, 267);
  EXPECT_EQ(build_model_tokenizer(options)->encode("bc"), (std::vector<int64_t>{266}));
  options.model.vocab_size = 266;
  EXPECT_EQ(build_run_tokenizer(options)->encode("bc"), (std::vector<int64_t>{9 + 'b', 9 + 'c'}));
  options.model.vocab_size = 300;
  EXPECT_THAT(error_of([&] { build_run_tokenizer(options); }), HasSubstr("--vocab-size"));
}

TEST(ByteTokenizer, CanBeSplitAnywhere) {
  EXPECT_EQ(ByteTokenizer().last_safe_cut("abc", 2), 2u);
}

TEST(NullTokenizer, IsSplitBetweenIds) {
  const NullTokenizer tokenizer(100);
  EXPECT_EQ(tokenizer.last_safe_cut("12 34 56", 7), 6u);
  EXPECT_EQ(tokenizer.last_safe_cut("12 34 56", 4), 3u);
  EXPECT_EQ(tokenizer.last_safe_cut("1234", 3), 0u);
}

}  // namespace
}  // namespace megatron
