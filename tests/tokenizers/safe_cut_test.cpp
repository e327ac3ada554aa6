// Texts split at safe cuts have the ids of the full text.
#include "megatron/tokenizers/safe_cut.h"

#include <gmock/gmock.h>
#include <random>

#include <gtest/gtest.h>

#include "megatron/tokenizers/tokenizer_json.h"

#include "tests/data/golden.h"

namespace megatron {
namespace {

using nlohmann::json;

class SafeCutTest : public ::testing::Test {
 protected:
  void set_prefix_space() { root_["pre_tokenizer"]["add_prefix_space"] = true; }
  void set_splits(const std::vector<std::string>& expressions, bool gpt2_words = false) {
    json steps = json::array();
    for (const auto& expression : expressions) {
      steps.push_back(
          {{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}});
    }
    steps.push_back(
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", gpt2_words}});
    root_["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  }
  void add_token(const std::string& content, bool left_strip, bool right_strip, bool normalized) {
    root_["added_tokens"].push_back({{"id", next_id_++},
                                     {"content", content},
                                     {"lstrip", left_strip},
                                     {"rstrip", right_strip},
                                     {"normalized", normalized}});
  }
  std::unique_ptr<Tokenizer> load() {
    spill(folder_ / "tokenizer.json", root_.dump());
    return load_tokenizer_json(folder_ / "tokenizer.json");
  }

  // Splits random texts, of which a prefix is known, and compares. Returns the number of cuts.
  int expect_equal_ids(const Tokenizer& tokenizer) {
    static const char* const kAtoms[] = {
        "a",    "the", "New",  "York",         " ",         " ",   "  ", "\n", "\n",
        "\r\n", "/",   "!",    "12",           "'s",        "<m>", "<m", "m>", "\xc2\xa0",
        ",",    "I",   "\xff", "\xe4\xb8\xad", "e\xcc\x81", "\t",  "x"};
    std::mt19937 random(5);
    int cuts = 0;
    for (int i = 0; i < 4000; ++i) {
      std::string text;
      for (size_t n = 2 + random() % 12; n > 0; --n) text += kAtoms[random() % std::size(kAtoms)];
      const std::string known = text.substr(0, 1 + random() % text.size());
      const size_t limit = random() % (known.size() + 1);
      const size_t cut = tokenizer.last_safe_cut(known, limit);
      EXPECT_LE(cut, limit);
      if (cut == 0) continue;
      ++cuts;
      std::vector<int64_t> parts = tokenizer.encode(text.substr(0, cut));
      for (const int64_t id : tokenizer.encode(text.substr(cut))) parts.push_back(id);
      EXPECT_EQ(parts, tokenizer.encode(text)) << "'" << text << "' at " << cut;
    }
    return cuts;
  }

  TemporaryFolder folder_;
  json root_ = golden("hf_tiny/tokenizer.json");
  int64_t next_id_ = 512;
};

constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kO200kWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

TEST_F(SafeCutTest, KeepsTheIdsOfKnownExpressions) {
  EXPECT_GT(expect_equal_ids(*load()), 500);
  for (const char* expression : {kLlama3Words, kO200kWords}) {
    set_splits({expression});
    EXPECT_GT(expect_equal_ids(*load()), 500) << expression;
  }
  for (const char* expression : {kTikTokenV1Words, kTikTokenV2Words}) {
    set_splits({expression});
    EXPECT_GT(expect_equal_ids(*load()), 500) << expression;
  }
  set_splits({R"(\p{N}{1,3})", R"(\p{N})"}, /*gpt2_words=*/true);
  EXPECT_GT(expect_equal_ids(*load()), 500);
}

TEST_F(SafeCutTest, KeepsTheIdsOfNormalizationForms) {
  for (const char* form : {"NFC", "NFD"}) {
    root_["normalizer"] = {{"type", form}};
    EXPECT_GT(expect_equal_ids(*load()), 500) << form;
  }
  // A normalized added token may begin in other text than its own.
  add_token("New York", false, false, true);
  EXPECT_EQ(load()->last_safe_cut("many words and spaces", 20), 0u);
}

TEST_F(SafeCutTest, FindsNoneWhereANormalizerMayMoveSpaces) {
  for (const char* name : {"NFKC", "Lowercase", "StripAccents"}) {
    root_["normalizer"] = {{"type", name}};
    EXPECT_EQ(load()->last_safe_cut("many words and spaces", 20), 0u) << name;
  }
}

TEST_F(SafeCutTest, KeepsTheIdsWithAPrefixSpace) {
  set_prefix_space();
  EXPECT_GT(expect_equal_ids(*load()), 200);
}

TEST_F(SafeCutTest, KeepsTheIdsOfAddedTokens) {
  add_token("New York", false, false, false);
  add_token("<m>", true, true, false);
  add_token("! ", false, false, true);
  add_token("I\n", false, true, true);
  EXPECT_GT(expect_equal_ids(*load()), 200);
}

TEST_F(SafeCutTest, FindsNoneWhereTheExpressionIsNotKnown) {
  set_splits({R"(\w+ ?|\W)"});
  EXPECT_EQ(load()->last_safe_cut("many words and spaces", 20), 0u);
  set_splits({});  // without any expression, a text is one word
  EXPECT_EQ(load()->last_safe_cut("many words and spaces", 20), 0u);
}

TEST_F(SafeCutTest, FindsOneNearTheEndOfOrdinaryText) {
  const std::string book = slurp(std::string(EXAMPLES_DIR) + "/data/kjv.txt");
  const auto tokenizer = load();
  for (const size_t limit : {1000u, 100000u, 1000000u}) {
    EXPECT_GT(tokenizer->last_safe_cut(book, limit), limit - 200);
  }
}

}  // namespace
}  // namespace megatron
