// Normalizers and pre-tokenizers against Hugging Face's, and Unicode's normalization forms.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/tokenizers/normalizers/normalizer.h"
#include "megatron/tokenizers/pre_tokenizers/pre_tokenizer.h"
#include "megatron/tokenizers/text/base64.h"
#include "megatron/tokenizers/text/prefix_trie.h"
#include "megatron/tokenizers/text/unicode.h"

#include "tests/tokenizers/generated_texts.h"
#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

const std::string kFile = "tokenizer.json";

TextPiece whole(const std::string& text) {
  return {.text = text, .from_start = text.empty() ? 0 : utf8_length(text[0])};
}

TEST(Normalizer, AgreesWithHuggingFace) {
  const auto& cases = tokenizer_golden()["normalizers"];
  ASSERT_EQ(cases.size(), 22u);
  for (const auto& one : cases) {
    const auto normalizer = make_normalizer(JsonNode(one["component"], kFile));
    for (const auto& [kind, digest] : one["kinds"].items()) {
      std::vector<std::string> results;
      for (const auto& text : texts_of(kind)) {
        TextPiece piece = whole(text);
        normalizer->apply(piece);
        EXPECT_LE(piece.from_start, piece.text.size());
        results.push_back(piece.text);
      }
      EXPECT_EQ(digest_of_texts(results), digest.get<std::string>())
          << kind << ": " << one["component"].dump().substr(0, 200);
    }
  }
}

TEST(PreTokenizers, AgreeWithHuggingFace) {
  const auto& cases = tokenizer_golden()["pre_tokenizers"];
  ASSERT_EQ(cases.size(), 52u);
  for (const auto& one : cases) {
    const auto pre_tokenizer = make_pre_tokenizer(JsonNode(one["component"], kFile));
    for (const auto& [kind, digest] : one["kinds"].items()) {
      std::vector<std::string> results;
      for (const auto& text : texts_of(kind)) {
        std::vector<TextPiece> pieces = {whole(text)};
        pre_tokenizer->split(pieces);
        std::string joined;
        for (size_t i = 0; i < pieces.size(); ++i) joined += (i > 0 ? "\x1f" : "") + pieces[i].text;
        results.push_back(joined);
      }
      EXPECT_EQ(digest_of_texts(results), digest.get<std::string>())
          << kind << ": " << one["component"];
    }
  }
}

TEST(Unicode, NormalizesALongRunOfMarksInReasonableTime) {
  // Ordering marks one by one would take minutes.
  std::string text = "a";
  for (int i = 0; i < 200000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const std::string result = normalize(text, NormalizationForm::nfd);
  EXPECT_EQ(result.size(), text.size());
  EXPECT_TRUE(result.starts_with("a\u0323\u0323"));
  EXPECT_TRUE(result.ends_with("\u0301\u0301"));
}

TEST(Unicode, KeepsGraphemesTogether) {
  EXPECT_EQ(grapheme_length("e\u0301x"), 3u);
  EXPECT_EQ(grapheme_length("\r\nx"), 2u);
  EXPECT_EQ(grapheme_length("\U0001f1e9\U0001f1ea\U0001f1eb"), 8u);  // two letters of a flag
  EXPECT_EQ(grapheme_length("a"), 1u);
}

TEST(Utf8, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(with_replacements("a\xff\xfe"), "a\ufffd\ufffd");
  EXPECT_EQ(with_replacements("\xe2\x82"), "\ufffd");                  // a cut character
  EXPECT_EQ(with_replacements("\xf0\x9f\x98z"), "\ufffdz");            // another
  EXPECT_EQ(with_replacements("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");  // a surrogate
  EXPECT_EQ(with_replacements("\xc0\xaf"), "\ufffd\ufffd");            // an overlong form
  EXPECT_EQ(with_replacements("\xe2\x82\xac"), "\xe2\x82\xac");
}

TEST(Base64, RefusesOtherText) {
  EXPECT_EQ(decode_base64("aGk="), "hi");
  EXPECT_EQ(decode_base64("/+8A"), std::string("\xff\xef\0", 3));
  EXPECT_EQ(decode_base64(""), "");
  for (const char* bad : {"aGk", "a===", "aG k", "====", "aG=k"}) {
    EXPECT_EQ(decode_base64(bad), std::nullopt) << bad;
  }
}

TEST(PrefixTrie, FindsAllPrefixes) {
  const PrefixTrie trie({{"a", 1}, {"abc", 2}, {"b", 3}, {"a", 4}, {"", 5}, {"\xff", 6}});
  std::vector<std::pair<size_t, int32_t>> found;
  trie.visit_prefixes("abcd",
                      [&](size_t length, int32_t value) { found.emplace_back(length, value); });
  EXPECT_THAT(found, ElementsAre(Pair(1, 4), Pair(3, 2)));
  EXPECT_EQ(trie.longest("ab").value, 4);
  EXPECT_EQ(trie.longest("\xff\xff").value, 6);
  EXPECT_EQ(trie.longest("cab").length, 0u);
  EXPECT_EQ(trie.longest("").length, 0u);
  EXPECT_EQ(PrefixTrie().longest("a").length, 0u);
}

std::string error_of_normalizer(const char* text) {
  const auto json = nlohmann::json::parse(text);
  return error_of([&] { make_normalizer(JsonNode(json, kFile)["normalizer"]); });
}

TEST(Normalizer, NamesWhatItDoesNotSupport) {
  EXPECT_THAT(error_of_normalizer(R"({"normalizer": {"type": "Uppercase"}})"),
              HasSubstr("Expected normalizer of tokenizer.json to be NFC, NFD"));
  EXPECT_THAT(error_of_normalizer(R"({"normalizer": 3})"), HasSubstr("but got 3"));
  EXPECT_THAT(error_of_normalizer(R"({"normalizer": {"type": "Strip", "strip_left": 1}})"),
              HasSubstr("normalizer.strip_left"));
  EXPECT_THAT(error_of_normalizer(R"({"normalizer": {"type": "Prepend"}})"),
              HasSubstr("normalizer.prepend"));
  EXPECT_THAT(error_of_normalizer(
                  R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "X"}]}})"),
              HasSubstr("normalizer.normalizers[0]"));
  EXPECT_THAT(error_of_normalizer(R"({"normalizer": {"type": "Sequence"}})"), HasSubstr("a list"));
  EXPECT_THAT(
      error_of_normalizer(
          R"({"normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}})"),
      HasSubstr("'('"));
  EXPECT_THAT(error_of_normalizer(R"({"normalizer": {"type": "Replace", "pattern": "a"}})"),
              HasSubstr("normalizer.pattern"));
  for (const char* map : {"", "AAAA", "!", "AwAAAAAAAAA=", "/////wAAAAA="}) {
    const std::string text = fmt::format(
        R"({{"normalizer": {{"type": "Precompiled", "precompiled_charsmap": "{}"}}}})", map);
    EXPECT_THAT(error_of_normalizer(text.c_str()), HasSubstr("Expected normalizer")) << map;
  }
}

TEST(Normalizer, RefusesDeepNesting) {
  nlohmann::json node = {{"type", "NFC"}};
  for (int i = 0; i < 10000; ++i) {
    nlohmann::json outer = {{"type", "Sequence"}, {"normalizers", nlohmann::json::array()}};
    outer["normalizers"].push_back(std::move(node));
    node = std::move(outer);
  }
  EXPECT_THAT(error_of([&] { make_normalizer(JsonNode(node, kFile)); }), HasSubstr("sequences"));
}

// A damaged trie ends in other replacements or in none, and never reads outside of it.
TEST(Normalizer, SurvivesADamagedCharacterMap) {
  const auto& cases = tokenizer_golden()["normalizers"];
  nlohmann::json component = cases.back()["component"];
  const std::string map = component["precompiled_charsmap"];
  uint64_t random = 1;
  for (int round = 0; round < 300; ++round) {
    std::string damaged = map;
    for (int i = 0; i < 20; ++i) {
      random = random * 6364136223846793005 + 1442695040888963407;
      // The size of the trie stays: a wrong one is refused.
      const size_t place = 8 + (random >> 33) % (damaged.size() - 16);
      damaged[place] =
          "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[random >> 58];
    }
    component["precompiled_charsmap"] = damaged;
    try {
      const auto normalizer = make_normalizer(JsonNode(component, kFile));
      for (const auto* text : {"abc\ufb01\u2460 e\u0301 \u3000\u1100\u1161", "\xef\xbd\x81"}) {
        TextPiece piece = whole(text);
        normalizer->apply(piece);
        EXPECT_EQ(valid_utf8_prefix(piece.text), piece.text.size());
      }
    } catch (const Error&) {
    }
  }
}

TEST(PreTokenizers, NameWhatTheyDoNotSupport) {
  const auto error = [](const char* text) {
    const auto json = nlohmann::json::parse(text);
    return error_of([&] { make_pre_tokenizer(JsonNode(json, kFile)["pre_tokenizer"]); });
  };
  EXPECT_THAT(error(R"({"pre_tokenizer": {"type": "UnicodeScripts"}})"),
              HasSubstr("UnicodeScripts"));
  EXPECT_THAT(error(R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "ab"}})"),
              HasSubstr("pre_tokenizer.replacement"));
  EXPECT_THAT(error(R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_",
                        "prepend_scheme": "last"}})"),
              HasSubstr("first, never or always"));
  EXPECT_THAT(error(R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_",
                        "prepend_scheme": "first", "add_prefix_space": false}})"),
              HasSubstr("add_prefix_space"));
  EXPECT_THAT(error(R"({"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"},
                        "behavior": "Kept", "invert": false}})"),
              HasSubstr("pre_tokenizer.behavior"));
  EXPECT_THAT(error(R"({"pre_tokenizer": {"type": "FixedLength", "length": 0}})"),
              HasSubstr("pre_tokenizer.length"));
  EXPECT_THAT(error(R"({"pre_tokenizer": "Whitespace"})"), HasSubstr("but got \"Whitespace\""));
}

}  // namespace
}  // namespace megatron
