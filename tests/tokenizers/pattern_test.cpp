// Expressions against Oniguruma and against ids from Hugging Face's tokenizers.
#include "megatron/tokenizers/text/pattern.h"

#include <gmock/gmock.h>
#include <random>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/tokenizers/text/character_classes.h"
#include "megatron/tokenizers/tokenizer_json.h"

#include "tests/data/golden.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;

TEST(PreTokenizer, AgreesWithHuggingFace) {
  TemporaryFolder folder;
  nlohmann::json root = golden("hf_tiny/tokenizer.json");
  const auto cases = golden("hf_tiny/pre_tokenizers.json");
  ASSERT_EQ(cases.size(), 38u);
  for (const auto& one : cases) {
    root["pre_tokenizer"] = one["pre_tokenizer"];
    spill(folder / "tokenizer.json", root.dump());
    const auto tokenizer = load_tokenizer_json(folder / "tokenizer.json");
    for (const auto& sample : one["samples"]) {
      EXPECT_EQ(tokenizer->encode(sample[0].get<std::string>()),
                sample[1].get<std::vector<int64_t>>())
          << one["name"] << ": " << sample[0];
    }
  }
}

// The example that needs Oniguruma's \w: a combining accent is part of the word.
TEST(Pattern, CountsMarksAsWordCharacters) {
  PatternMatcher matcher(Pattern(R"(\w+|[^\w\s]+|\s+)"));
  EXPECT_THAT(matcher.find("e\xcc\x81", 0), Pair(0, 3));
}

TEST(Pattern, IntersectsClasses) {
  PatternMatcher matcher(Pattern("[a-z&&[^aeiou]]+"));
  EXPECT_THAT(matcher.find("aeiuxyzo", 0), Pair(4, 7));
}

TEST(Pattern, FindsLiterals) {
  PatternMatcher matcher(Pattern::literal("a.b"));
  EXPECT_THAT(matcher.find("axb a.b", 0), Pair(4, 7));
  EXPECT_EQ(matcher.find("axb a.b", 5).first, std::string_view::npos);
}

TEST(Pattern, NamesAnInvalidExpression) {
  try {
    Pattern("(oops");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'(oops'"));
    EXPECT_THAT(error.what(), HasSubstr("parenthesis"));
  }
}

// Text made of the characters that the known expressions treat differently.
std::string random_text(std::mt19937& random) {
  static const char* const kAtoms[] = {"a",
                                       "S",
                                       "t",
                                       "re",
                                       "LL",
                                       "'",
                                       "'s",
                                       "'LL",
                                       "\xc5\xbf",
                                       " ",
                                       "  ",
                                       "\t",
                                       "\n",
                                       "\r",
                                       "\r\n",
                                       "1",
                                       "23",
                                       "\xc2\xb2",
                                       "\xd9\xa3",
                                       ".",
                                       "!",
                                       "/",
                                       "-",
                                       "e\xcc\x81",
                                       "\xe0\xa5\x8d",
                                       "\xe4\xb8\xad",
                                       "\xc2\xa0",
                                       "\xe3\x80\x80",
                                       "\xc2\x85",
                                       "\xe1\xa0\x8e",
                                       "\xf0\x9f\x98\x80",
                                       "\xef\xac\x86"};
  std::string text;
  const size_t atoms = 1 + random() % 8;
  for (size_t i = 0; i < atoms; ++i) text += kAtoms[random() % std::size(kAtoms)];
  return text;
}

TEST(KnownPatterns, ScannersMatchAsOniguruma) {
  std::vector<std::string> expressions = {kGpt2Words, kEverything};
  for (const auto& one : golden("hf_tiny/pre_tokenizers.json")) {
    for (const auto& step : one["pre_tokenizer"].value("pretokenizers", nlohmann::json::array())) {
      if (step["type"] != "Split" || !step["pattern"].contains("Regex")) continue;
      const auto expression = step["pattern"]["Regex"].get<std::string>();
      const KnownPattern* known = find_known_pattern(expression);
      if (known != nullptr && known->scan != nullptr) expressions.push_back(expression);
    }
  }
  ASSERT_GE(expressions.size(), 7u);  // Llama 3, Qwen 2 and three of digits among them
  std::mt19937 random(1);
  for (const auto& expression : expressions) {
    PatternMatcher matcher{Pattern(expression)};
    for (int i = 0; i < 3000; ++i) {
      const std::string text = random_text(random);
      ASSERT_EQ(matcher.find(text, 0), find_by_oniguruma(expression, text, 0))
          << expression << " on '" << text << "'";
    }
  }
}

TEST(CharacterClasses, KnowUnicode16) {
  const CharacterClass* classes = character_classes();
  EXPECT_EQ(classes['x'], CharacterClass::letter);
  EXPECT_EQ(classes[0x0967], CharacterClass::number);  // Devanagari 1
  EXPECT_EQ(classes[0x00B2], CharacterClass::number);  // superscript 2
  EXPECT_EQ(classes[0x3000], CharacterClass::space);
  EXPECT_EQ(classes[0x180E], CharacterClass::other);  // no longer white space
  EXPECT_EQ(classes['\n'], CharacterClass::newline);
  EXPECT_EQ(classes[0x11F04], CharacterClass::letter);  // Kawi, Unicode 15
  EXPECT_EQ(classes[0x1CCF0], CharacterClass::number);  // outlined digits, Unicode 16
}

}  // namespace
}  // namespace megatron
