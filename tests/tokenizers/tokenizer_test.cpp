// Tokenizers against ids that Hugging Face's tokenizers made; files that are not tokenizers.
#include "megatron/tokenizers/tokenizer.h"

#include <gmock/gmock.h>
#include <random>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/tokenizers/build_tokenizer.h"
#include "megatron/tokenizers/byte_tokenizer.h"
#include "megatron/tokenizers/tokenizer_json.h"
#include "megatron/tokenizers/vocab_merges.h"

#include "tests/data/golden.h"
#include "tests/data/sha256.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

const Tokenizer& gpt2() {
  static const auto tokenizer =
      load_vocab_merges(golden_path("gpt2/vocab.json"), golden_path("gpt2/merges.txt"));
  return *tokenizer;
}

const Tokenizer& smollm2() {
  static const auto tokenizer = load_tokenizer_json(golden_path("smollm2/tokenizer.json"));
  return *tokenizer;
}

const Tokenizer& kjv4096() {
  static const auto tokenizer =
      load_tokenizer_json(std::string(EXAMPLES_DIR) + "/data/tokenizer.json");
  return *tokenizer;
}

std::string kjv() {
  return slurp(std::string(EXAMPLES_DIR) + "/data/kjv.txt");
}

void expect_samples(const Tokenizer& tokenizer, const std::string& expected) {
  const auto samples = golden(expected)["samples"];
  ASSERT_GT(samples.size(), 5u);
  for (const auto& sample : samples) {
    const auto text = sample["text"].get<std::string>();
    const auto ids = sample["ids"].get<std::vector<int64_t>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << "text: " << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
}

template <typename F>
std::string error_of(F&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Gpt2Tokenizer, AgreesWithHuggingFace) {
  expect_samples(gpt2(), "gpt2/expected.json");
}

TEST(Gpt2Tokenizer, AgreesOnAWholeBook) {
  const auto expected = golden("gpt2/expected.json")["corpus"];
  const std::string text = kjv();
  const auto ids = gpt2().encode(text);
  ASSERT_EQ(ids.size(), expected["tokens"].get<size_t>());
  EXPECT_EQ(sha256_of_ids(ids), expected["sha256_u32le"].get<std::string>());
  EXPECT_EQ(gpt2().decode(ids), text);
}

TEST(Gpt2Tokenizer, KnowsItsVocabulary) {
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

TEST(TokenizerJson, AgreesOnAWholeBookWithTheShippedVocabulary) {
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

// The same file with one thing changed.
class ChangedTokenizerJson : public ::testing::Test {
 protected:
  std::unique_ptr<Tokenizer> load() {
    spill(folder_ / "tokenizer.json", root_.dump());
    return load_tokenizer_json(folder_ / "tokenizer.json");
  }
  std::string error() {
    return error_of([this] { load(); });
  }

  TemporaryFolder folder_;
  nlohmann::json root_ = golden("hf_tiny/tokenizer.json");
};

TEST_F(ChangedTokenizerJson, ReadsMergesInBothSpellings) {
  const auto before = load()->encode("In the beginning, don't we'll\n\n 1984");
  for (auto& merge : root_["model"]["merges"]) {
    if (merge.is_array()) {
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    } else {
      const auto text = merge.get<std::string>();
      const size_t space = text.find(' ');
      merge = {text.substr(0, space), text.substr(space + 1)};
    }
  }
  EXPECT_EQ(load()->encode("In the beginning, don't we'll\n\n 1984"), before);
}

TEST_F(ChangedTokenizerJson, CutsBySplitsDigitsAndByteLevelInTurn) {
  // Each piece by itself, encoded with the plain tokenizer, must give the same ids in a row.
  const auto plain = load();
  root_["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"},
         {"pattern",
          {{"Regex", R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+)"}}},
         {"behavior", "Isolated"},
         {"invert", false}},
        {{"type", "Digits"}, {"individual_digits", true}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  const auto ids = load()->encode("(the 1984!\nbe");
  std::vector<int64_t> expected;
  for (const char* piece : {"(the", " ", "1", "9", "8", "4", "!\n", "be"}) {
    // In one word, since the plain tokenizer would cut "(the" and "!\n".
    root_["pre_tokenizer"] = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    for (const int64_t id : load()->encode(piece)) expected.push_back(id);
  }
  EXPECT_EQ(ids, expected);
}

TEST_F(ChangedTokenizerJson, RemovesWhatASplitRemoves) {
  const auto plain = load()->encode("abc");
  root_["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"String", ".."}}}, {"behavior", "Removed"}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}};
  EXPECT_EQ(load()->encode("..abc.."), plain);
}

TEST_F(ChangedTokenizerJson, AddsThePrefixSpaceThatIsAskedFor) {
  const auto spaced = load()->encode(" the");
  root_["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(load()->encode("the"), spaced);
  EXPECT_EQ(load()->encode(" the"), spaced);
}

TEST_F(ChangedTokenizerJson, FindsAddedTokensLongestFirstAndStripsAround) {
  const int64_t next = load()->vocab_size();
  root_["added_tokens"].push_back({{"id", next}, {"content", "<a>"}, {"special", true}});
  root_["added_tokens"].push_back({{"id", next + 1}, {"content", "<a><b>"}, {"special", true}});
  root_["added_tokens"].push_back(
      {{"id", next + 2}, {"content", "<mask>"}, {"lstrip", true}, {"rstrip", true}});
  const auto tokenizer = load();
  EXPECT_EQ(tokenizer->vocab_size(), next + 3);
  EXPECT_EQ(tokenizer->encode("<a><a><b>"), (std::vector<int64_t>{next, next + 1}));
  EXPECT_EQ(tokenizer->encode(" \n<mask>\u3000 "), (std::vector<int64_t>{next + 2}));
  EXPECT_EQ(tokenizer->decode(std::vector<int64_t>{next + 1}), "<a><b>");
}

TEST_F(ChangedTokenizerJson, TakesTheEndOfDocumentFromTheConfigBesideIt) {
  root_["added_tokens"].push_back({{"id", 600}, {"content", "<|im_end|>"}, {"special", true}});
  EXPECT_EQ(load()->eod(), 0);
  spill(folder_ / "tokenizer_config.json", R"({"eos_token": {"content": "<|im_end|>"}})");
  EXPECT_EQ(load()->eod(), 600);
}

TEST_F(ChangedTokenizerJson, NamesWhatIsNotSupported) {
  const auto original = root_;
  const auto refuses = [&](const char* pointer, nlohmann::json value, const char* named) {
    root_ = original;
    root_[nlohmann::json::json_pointer(pointer)] = std::move(value);
    EXPECT_THAT(error(), HasSubstr(named)) << pointer;
  };
  refuses("/normalizer", {{"type", "NFC"}}, "normalizer");
  refuses("/normalizer", {{"type", "NFC"}}, "NFC");
  refuses("/model/type", "Unigram", "Unigram");
  refuses("/model/byte_fallback", true, "model.byte_fallback");
  refuses("/model/dropout", 0.1, "model.dropout");
  refuses("/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix");
  refuses("/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix");
  refuses("/pre_tokenizer", {{"type", "Metaspace"}}, "Metaspace");
  refuses("/pre_tokenizer", nullptr, "pre_tokenizer");
  refuses("/pre_tokenizer",
          {{"type", "Sequence"},
           {"pretokenizers",
            {{{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithNext"}},
             {{"type", "ByteLevel"}}}}},
          "pretokenizers[0].behavior");
  refuses("/pre_tokenizer",
          {{"type", "Sequence"},
           {"pretokenizers",
            {{{"type", "Split"}, {"pattern", {{"Regex", "(oops"}}}, {"behavior", "Isolated"}},
             {{"type", "ByteLevel"}}}}},
          "(oops");
  refuses("/decoder", {{"type", "WordPiece"}}, "decoder");
  refuses("/added_tokens/0/single_word", true, "single_word");
  refuses("/added_tokens/0/id", -5, "added_tokens[0]");
  refuses("/model/merges/0", "onlyone", "model.merges[0]");
  refuses("/model/merges/0", {"nothing", "here"}, "nothing");
  refuses("/model/unk_token", "<missing>", "model.unk_token");
  refuses("/model/vocab", nlohmann::json::object(), "not in the vocabulary");
  refuses("/model/vocab/zz", 4000000000, "zz");
}

TEST_F(ChangedTokenizerJson, RefusesFilesThatAreNoTokenizers) {
  const auto load_text = [&](const std::string& text) {
    spill(folder_ / "x.json", text);
    return error_of([&] { load_tokenizer_json(folder_ / "x.json"); });
  };
  EXPECT_THAT(load_text(R"({"architectures": ["GPT2"]})"), HasSubstr("not a tokenizer file"));
  EXPECT_THAT(load_text("In the beginning"), HasSubstr("is not JSON"));
  EXPECT_THAT(load_text(root_.dump().substr(0, 5000)), HasSubstr("is not JSON"));
  EXPECT_THAT(load_text(""), HasSubstr("is not JSON"));
  EXPECT_THAT(load_text("[1, 2]"), HasSubstr("not a tokenizer file"));
  EXPECT_THAT(error_of([&] { load_tokenizer_json(folder_ / "missing"); }), HasSubstr("missing"));
  EXPECT_THAT(error_of([&] { load_tokenizer_json(folder_ / "."); }), HasSubstr("regular file"));
}

TEST(VocabMerges, RefusesFilesThatAreSomethingElse) {
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
              HasSubstr("not JSON"));
  spill(folder / "list.json", "[]");
  EXPECT_THAT(error_of([&] { load_vocab_merges(folder / "list.json", folder / "merges.txt"); }),
              HasSubstr("vocab.json"));
}

// Any bytes must come back where the vocabulary has all 256.
TEST(Tokenizer, BringsBackInvalidUtf8) {
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

TEST(Tokenizer, CountsBytesThatTheVocabularyCannotSpell) {
  // SmolLM2 has no token for the byte F1, which Hugging Face leaves out too.
  const auto encoder = smollm2().make_encoder();
  std::vector<int64_t> ids;
  encoder->encode("a\xf1", ids);
  EXPECT_EQ(ids, smollm2().encode("a"));
  encoder->encode("\xf1\x90\x80\x80", ids);  // valid, of a plane without characters
  EXPECT_EQ(encoder->bytes_left_out(), 2);
}

TEST(Tokenizer, MergesLongWordsAsShortOnes) {
  // The same letters as one word of 5,000 (by the heap) and, by a slow oracle, merged pair by pair.
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

TEST(Tokenizer, EncodesALineOfAMegabyteInReasonableTime) {
  // Quadratic merging would take hours.
  const std::string text(size_t{1} << 20, 'a');
  const auto ids = gpt2().encode(text);
  EXPECT_EQ(gpt2().decode(ids), text);
}

TEST(ByteTokenizer, IsItsBytes) {
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

TEST(BuildTokenizer, ChoosesByTheFiles) {
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

}  // namespace
}  // namespace megatron
