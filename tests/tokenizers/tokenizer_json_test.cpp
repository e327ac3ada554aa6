// tokenizer.json: supported features, refusals of all others, and other files.
#include "megatron/tokenizers/tokenizer_json.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

// hf_tiny/tokenizer.json with changes.
class TokenizerJsonTest : public ::testing::Test {
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

TEST_F(TokenizerJsonTest, ReadsMergesAsStringsOrPairs) {
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

TEST_F(TokenizerJsonTest, AppliesASequenceInOrder) {
  // The ids must be those of the pieces, encoded one by one.
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
    // As one word: GPT-2's expression would split "(the" and "!\n".
    root_["pre_tokenizer"] = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    for (const int64_t id : load()->encode(piece)) expected.push_back(id);
  }
  EXPECT_EQ(ids, expected);
}

TEST_F(TokenizerJsonTest, AppliesRemovedSplits) {
  const auto plain = load()->encode("abc");
  root_["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"String", ".."}}}, {"behavior", "Removed"}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}};
  EXPECT_EQ(load()->encode("..abc.."), plain);
}

TEST_F(TokenizerJsonTest, AddsAPrefixSpace) {
  const auto spaced = load()->encode(" the");
  root_["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(load()->encode("the"), spaced);
  EXPECT_EQ(load()->encode(" the"), spaced);
}

TEST_F(TokenizerJsonTest, MatchesTheLongestAddedTokenAndStrips) {
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

TEST_F(TokenizerJsonTest, ReadsTheEosTokenFromTokenizerConfig) {
  root_["added_tokens"].push_back({{"id", 600}, {"content", "<|im_end|>"}, {"special", true}});
  EXPECT_EQ(load()->eod(), 0);
  spill(folder_ / "tokenizer_config.json", R"({"eos_token": {"content": "<|im_end|>"}})");
  EXPECT_EQ(load()->eod(), 600);
}

TEST_F(TokenizerJsonTest, NamesUnsupportedFeatures) {
  const auto original = root_;
  const auto refuses = [&](const char* pointer, nlohmann::json value, const char* named) {
    root_ = original;
    root_[nlohmann::json::json_pointer(pointer)] = std::move(value);
    EXPECT_THAT(error(), HasSubstr(named)) << pointer;
  };
  refuses("/normalizer", {{"type", "Uppercase"}}, "normalizer");
  refuses("/normalizer", {{"type", "Uppercase"}}, "Uppercase");
  refuses("/model/type", "Transformer", "Transformer");
  refuses("/model/dropout", 0.1, "model.dropout");
  refuses("/normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", std::string(200, 'A')}},
          "Precompiled");
  refuses("/normalizer",
          {{"type", "Sequence"},
           {"normalizers",
            {{{"type", "Replace"}, {"pattern", {{"String", std::string(100, ' ')}}}},
             {{"type", "NFKC"}}}}},
          "normalizer.normalizers[0].content");
  refuses("/pre_tokenizer", {{"type", "Metaspace"}}, "pre_tokenizer.replacement");
  refuses("/pre_tokenizer", {{"type", "UnicodeScripts"}}, "UnicodeScripts");
  refuses("/pre_tokenizer",
          {{"type", "Sequence"}, {"pretokenizers", {{{"type", "UnicodeScripts"}}}}},
          "pre_tokenizer.pretokenizers[0]");
  refuses("/pre_tokenizer",
          {{"type", "Sequence"},
           {"pretokenizers",
            {{{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "Kept"}},
             {{"type", "ByteLevel"}}}}},
          "pretokenizers[0].behavior");
  refuses("/pre_tokenizer",
          {{"type", "Sequence"},
           {"pretokenizers",
            {{{"type", "Split"}, {"pattern", {{"Regex", "(oops"}}}, {"behavior", "Isolated"}},
             {{"type", "ByteLevel"}}}}},
          "(oops");
  refuses("/decoder", {{"type", "WordPiece"}}, "decoder");
  refuses("/added_tokens/0/single_word", 1, "single_word");
  refuses("/added_tokens/0/id", -5, "added_tokens[0]");
  refuses("/model/merges/0", "onlyone", "model.merges[0]");
  refuses("/model/merges/0", {"nothing", "here"}, "nothing");
  refuses("/model/unk_token", "<missing>", "model.unk_token");
  refuses("/model/vocab", nlohmann::json::object(), "not in the vocabulary");
  refuses("/model/vocab/zz", 4000000000, "zz");
}

TEST_F(TokenizerJsonTest, RefusesOtherFiles) {
  const auto load_text = [&](const std::string& text) {
    spill(folder_ / "x.json", text);
    return error_of([&] { load_tokenizer_json(folder_ / "x.json"); });
  };
  EXPECT_THAT(load_text(R"({"architectures": ["GPT2"]})"), HasSubstr("not a tokenizer file"));
  EXPECT_THAT(load_text("In the beginning"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(load_text("{\n\"model\": {\n\"type\": BPE\n}}"),
              HasSubstr("x.json is not valid JSON: syntax error in line 3"));
  EXPECT_THAT(load_text("{\n\"model\": 1e999}"),
              HasSubstr("1e999 in line 2 of " + folder_ / "x.json"));
  EXPECT_THAT(load_text(root_.dump().substr(0, 5000)), HasSubstr("is not valid JSON"));
  EXPECT_THAT(load_text(""), HasSubstr("is not valid JSON"));
  EXPECT_THAT(load_text("[1, 2]"), HasSubstr("not a tokenizer file"));
  EXPECT_THAT(error_of([&] { load_tokenizer_json(folder_ / "missing"); }), HasSubstr("missing"));
  EXPECT_THAT(error_of([&] { load_tokenizer_json(folder_ / "."); }), HasSubstr("regular file"));
}

}  // namespace
}  // namespace megatron
