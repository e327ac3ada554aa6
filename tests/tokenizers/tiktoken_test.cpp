// TikTokenizer against the Python package tiktoken, with GPT-2's tokens.
#include "megatron/tokenizers/tiktoken.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/tokenizers/generated_texts.h"
#include "tests/tokenizers/tokenizer_fixtures.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string base64_of(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0);
    }
    for (size_t k = 0; k < 4; ++k) {
      text += i + k > bytes.size() ? '=' : kDigits[group >> (18 - 6 * k) & 63];
    }
  }
  return text;
}

class TikTokenTest : public ::testing::Test {
 protected:
  // GPT-2's first `count` tokens, as lines or as Megatron's list.
  void write_tokens(const std::string& name, int64_t count, bool list = false) {
    nlohmann::json entries = nlohmann::json::array();
    std::string lines;
    for (int64_t rank = 0; rank < count; ++rank) {
      const std::string token = base64_of(gpt2().token_bytes(rank));
      if (list) {
        entries.push_back({{"rank", rank}, {"token_bytes", token}, {"token_str", ""}});
      } else {
        lines += fmt::format("{} {}\n", token, rank);
      }
    }
    spill(folder_ / name, list ? entries.dump() : lines);
  }
  std::string error(const TikTokenOptions& options = {}, const char* file = "small.tiktoken") {
    return error_of([&] { load_tiktoken(folder_ / file, options); });
  }

  TemporaryFolder folder_;
};

TEST_F(TikTokenTest, AgreesWithThePythonPackage) {
  write_tokens("gpt2.tiktoken", 50256);
  for (const char* pattern : {"v1", "v2"}) {
    SCOPED_TRACE(pattern);
    const auto tokenizer =
        load_tiktoken(folder_ / "gpt2.tiktoken", {.pattern = pattern, .num_special_tokens = 20});
    expect_digests(*tokenizer, tokenizer_golden()["tiktoken"][pattern]);
    EXPECT_EQ(tokenizer->vocab_size(), 50276);
    EXPECT_EQ(tokenizer->eod(), 2);
    EXPECT_EQ(tokenizer->token_bytes(19), "<SPECIAL_19>");
    EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\xff</s>")), "a\xff</s>");
  }
}

TEST_F(TikTokenTest, ReadsMegatronsList) {
  write_tokens("small.tiktoken", 1000);
  write_tokens("list.json", 1000, /*list=*/true);
  const auto lines = load_tiktoken(folder_ / "small.tiktoken", {});
  const auto list = load_tiktoken(folder_ / "list.json", {});
  EXPECT_EQ(lines->vocab_size(), 2000);
  EXPECT_EQ(list->fingerprint(), lines->fingerprint());
  EXPECT_EQ(list->encode("the <mask> of"), lines->encode("the <mask> of"));
  const auto cut = load_tiktoken(folder_ / "list.json", {.vocab_size = 1300});
  EXPECT_EQ(cut->vocab_size(), 1300);
  EXPECT_EQ(cut->decode(cut->encode("the of")), "the of");
}

TEST_F(TikTokenTest, TakesOtherSpecialTokens) {
  write_tokens("small.tiktoken", 300);
  const std::vector<std::string> tokens = {"<unk>", "</s>",  "<s>",   "<mask>",
                                           "<pad>", "<cls>", "<sep>", "<tool>"};
  const auto tokenizer = load_tiktoken(folder_ / "small.tiktoken",
                                       {.num_special_tokens = 9, .special_tokens = tokens});
  EXPECT_EQ(tokenizer->eod(), 1);
  EXPECT_THAT(tokenizer->encode("<tool><SPECIAL_8>"), ElementsAre(7, 8));
  EXPECT_THAT(error({.special_tokens = {"<unk>", "<s>"}}), HasSubstr("'</s>' is missing"));
  EXPECT_THAT(error({.num_special_tokens = 3}), HasSubstr("--tiktoken-num-special-tokens"));
  auto twice = tokens;
  twice.push_back("<tool>");
  EXPECT_THAT(error({.special_tokens = twice}), HasSubstr("differ from each other"));
}

TEST_F(TikTokenTest, RefusesOtherFiles) {
  write_tokens("small.tiktoken", 300);
  const std::string good = slurp(folder_ / "small.tiktoken");
  EXPECT_THAT(error({.vocab_size = 5000}), HasSubstr("--vocab-size"));
  EXPECT_THAT(error({.vocab_size = 1100}), HasSubstr("--vocab-size"));
  const auto error_with = [&](const std::string& text) {
    spill(folder_ / "small.tiktoken", text);
    return error();
  };
  EXPECT_THAT(error_with(good + "aGk=\n"), HasSubstr("line 301"));
  EXPECT_THAT(error_with(good + "aGk= x\n"), HasSubstr("line 301"));
  EXPECT_THAT(error_with(good + "aG 300\n"), HasSubstr("line 301"));
  EXPECT_THAT(error_with(good + "aGk= 99999999999999999999\n"), HasSubstr("line 301"));
  EXPECT_THAT(error_with(good + "aGk= -1\n"), HasSubstr("line 301"));
  EXPECT_THAT(error_with(good + "c29tZXRoaW5n 299\n"), HasSubstr("occurs again"));
  EXPECT_THAT(error_with(good + "YQ== 300\n"), HasSubstr("occurs again"));
  EXPECT_THAT(error_with(good.substr(good.find('\n') + 1)), HasSubstr("has none"));
  EXPECT_THAT(error_with(""), HasSubstr("has none"));
  EXPECT_THAT(error_with(R"({"model": {}})"), HasSubstr("not a tiktoken vocabulary"));
  EXPECT_THAT(error_with(R"([{"rank": 1, "token_bytes": "YQ=="}])"), HasSubstr("[0].rank"));
  EXPECT_THAT(error_with(R"([{"rank": 0, "token_bytes": "Y"}])"), HasSubstr("[0].token_bytes"));
  EXPECT_THAT(error_with(R"([5])"), HasSubstr("[0]"));
  EXPECT_THAT(error({}, "missing.tiktoken"), HasSubstr("missing.tiktoken"));
}

}  // namespace
}  // namespace megatron
