// JSON lines: keys, numbers, detection by content, and the errors that name a line.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/data/json_line.h"

#include "tests/data/preprocess_fixture.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(PreprocessTest, WritesAJsonLineAsOneDocument) {
  arguments_.inputs = {
      put("a.jsonl",
          "{\"text\": \"one\\n\"}\n\n{\"id\": 2, \"text\": \"\"}\r\n{\"text\": \"\\u00e9\"}")};
  EXPECT_THAT(documents(), ElementsAre("one\n", "", "\xc3\xa9"));
}

TEST_F(PreprocessTest, WritesOneDatasetPerKey) {
  arguments_.inputs = {put("a.jsonl", R"({"q": "why", "a": "so"})")};
  arguments_.json_keys = {"q", "a"};
  const ByteTokenizer tokenizer;
  const auto prefixes = run(tokenizer).prefixes;
  EXPECT_THAT(prefixes, ElementsAre(folder_ / "out_q_document", folder_ / "out_a_document"));
  EXPECT_EQ(tokenizer.decode(IndexedDataset(prefixes[0]).sequence(0)), "why");
  EXPECT_EQ(tokenizer.decode(IndexedDataset(prefixes[1]).sequence(0)), "so");
}

TEST_F(PreprocessTest, AcceptsTheNumbersThatPythonAccepts) {
  arguments_.inputs = {put(
      "a.jsonl",
      "{\"text\":\"a NaN 1e999\",\"score\":1e999}\n"
      "{\"score\":NaN,\"text\":\"b\"}\n"
      "{\"scores\":[Infinity, -Infinity,-1.5E+9999, 1], \"\\\"NaN\":0, "
      "\"text\":\"c \\\" Infinity\"}\n"
      "{\"text\":\"d\",\"id\":123456789012345678901234567890123456789012345678901234567890}\n")};
  EXPECT_THAT(documents(), ElementsAre("a NaN 1e999", "b", "c \" Infinity", "d"));
}

TEST_F(PreprocessTest, NamesTheLineOfAnInvalidNumber) {
  for (const char* value : {"1e", "nan", "--1", "+Infinity", "1.e5", "NaNs", "01", "Infinityx"}) {
    arguments_.inputs = {
        put("a.jsonl", fmt::format("{{\"text\":\"fine\"}}\n{{\"text\":\"b\",\"x\":{}}}\n", value))};
    EXPECT_THAT(error(), HasSubstr("line 2 of " + folder_ / "a.jsonl")) << value;
  }
  arguments_.inputs = {put("a.jsonl", "{\"text\":1e999}\n")};
  EXPECT_THAT(error(), HasSubstr("line 1 of "));
}

TEST_F(PreprocessTest, ReadsJsonLinesOfAnyName) {
  for (const std::string name : {"a.txt", "a", "a.json.new"}) {
    arguments_.inputs = {put(name, "\n {\"text\":\"one\", \"n\":NaN}\r\n{\"text\":\"two\"}\n")};
    EXPECT_THAT(documents(), ElementsAre("one", "two"));
    EXPECT_THAT(run(ByteTokenizer()).notes,
                ElementsAre(HasSubstr(arguments_.inputs[0] + " is read as JSON lines")));
  }
  arguments_.inputs = {put("a.jsonl", "{\"text\":\"one\"}")};
  EXPECT_THAT(run(ByteTokenizer()).notes, IsEmpty());
  arguments_.inputs = {put("a.txt", "{\"body\":\"one\"}\n")};
  EXPECT_THAT(error(), HasSubstr("--json-keys"));
}

TEST_F(PreprocessTest, ReadsTextThatBeginsWithABraceAsText) {
  for (const std::string text : {"{\n\"text\": \"one\"\n}\n", "{not JSON}\n", "[1]\n", "{"}) {
    arguments_.inputs = {put("a.txt", text)};
    EXPECT_THAT(documents(), ElementsAre(text));
    EXPECT_THAT(run(ByteTokenizer()).notes, IsEmpty());
  }
}

TEST_F(PreprocessTest, RefusesDocumentStartForJsonLines) {
  arguments_.inputs = {put("a.jsonl", "{\"text\":\"one\"}\n")};
  arguments_.document_start = "^one";
  EXPECT_THAT(error(), HasSubstr("--document-start"));
}

TEST_F(PreprocessTest, NamesTheLineOfTextThatTheTokenizerRefuses) {
  const auto error_of = [this] {
    try {
      run(NullTokenizer(100));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  arguments_.inputs = {put("a.jsonl", "{\"text\":\"1 2\"}\n{\"text\":\"1 x\"}\n")};
  EXPECT_THAT(error_of(), HasSubstr("line 2 of " + folder_ / "a.jsonl"));
  arguments_.inputs = {put("a.txt", "1 2\nx\n")};
  EXPECT_THAT(error_of(), HasSubstr(folder_ / "a.txt"));
}

TEST_F(PreprocessTest, NamesTheFirstInvalidLine) {
  std::string lines;
  for (int i = 1; i <= 50000; ++i) {
    if (i == 40001) lines += "{\"text\": \"unfinished\n";
    if (i == 45000) lines += "not JSON either\n";
    lines += "{\"text\": \"fine, and long enough for several chunks\"}\n";
  }
  arguments_.inputs = {put("a.jsonl", lines)};
  for (const int64_t workers : {1, 4}) {
    arguments_.workers = workers;
    EXPECT_THAT(error(), HasSubstr("line 40001 of "));
    EXPECT_THAT(folder_.names(), ElementsAre("a.jsonl"));
  }
}

TEST_F(PreprocessTest, NamesTheLineWithoutText) {
  arguments_.inputs = {put("a.jsonl", "{\"text\": \"x\"}\n{\"body\": \"x\"}\n")};
  EXPECT_THAT(error(), HasSubstr("line 2 of "));
  arguments_.inputs = {put("a.jsonl", "{\"text\": 5}\n")};
  EXPECT_THAT(error(), HasSubstr("number"));
  arguments_.inputs = {put("a.jsonl", "[1]\n")};
  EXPECT_THAT(error(), HasSubstr("line 1 of "));
  arguments_.inputs = {put("a.jsonl", "{\"text\": \"\xff\"}\n")};
  EXPECT_THAT(error(), HasSubstr("line 1 of "));
}

}  // namespace
}  // namespace megatron
