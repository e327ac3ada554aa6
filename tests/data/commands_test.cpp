// megatron preprocess and megatron tokenize as a user runs them.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/data/indexed_dataset.h"

#include "tests/data/golden.h"
#include "tests/program.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTokenizer =
    "--tokenizer-model " + std::string(EXAMPLES_DIR) + "/data/tokenizer.json";
const std::string kText = std::string(EXAMPLES_DIR) + "/data/kjv.txt";

TEST(TokenizeCommand, PrintsIdsOnOneLineAndGoesBack) {
  const std::string gpt2 = "--vocab-file " + golden_path("gpt2/vocab.json") + " --merge-file " +
                           golden_path("gpt2/merges.txt");
  const auto ids = run_program("tokenize " + gpt2, "", "Hello world\n");
  EXPECT_EQ(ids.status, 0) << ids.errors;
  EXPECT_EQ(ids.output, "15496 995 198\n");
  EXPECT_EQ(run_program("tokenize --decode " + gpt2, "", ids.output).output, "Hello world\n");
  EXPECT_EQ(run_program("tokenize " + gpt2, "", "").output, "\n");
}

TEST(TokenizeCommand, BringsBackAnyBytes) {
  std::string text = "no newline at the end, \xff\xfe, a zero: ";
  text += '\0';
  const auto ids = run_program("tokenize " + kTokenizer, "", text);
  EXPECT_EQ(run_program("tokenize --decode " + kTokenizer, "", ids.output).output, text);
  const std::string book = slurp(kText);
  const auto of_book = run_program("tokenize " + kTokenizer, "", book);
  EXPECT_EQ(run_program("tokenize --decode " + kTokenizer, "", of_book.output).output, book);
}

TEST(TokenizeCommand, RefusesWhatIsNoId) {
  for (const char* input : {"1 two", "4096", "-1", "1.5"}) {
    const auto result = run_program("tokenize --decode " + kTokenizer, "", input);
    EXPECT_EQ(result.status, 1) << input;
    EXPECT_THAT(last_line(result.errors), HasSubstr("Expected")) << input;
    EXPECT_EQ(result.output, "");
  }
}

TEST(TokenizeCommand, RefusesAFileThatIsNoTokenizer) {
  const auto result = run_program("tokenize --tokenizer-model " + kText, "", "x");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(last_line(result.errors), AllOf(HasSubstr("kjv.txt"), HasSubstr("not JSON")));
}

TEST(PreprocessCommand, WritesADatasetOfChapters) {
  TemporaryFolder folder;
  const std::string command = fmt::format(
      "preprocess --input {} --output-prefix {} --append-eod --workers 2 {} "
      "--document-start '^[0-9A-Z][A-Za-z ]* [0-9]+$'",
      kText, folder / "kjv", kTokenizer);
  const auto result = run_program(command);
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, EndsWith("1189 documents, 1046478 tokens\n"));
  EXPECT_THAT(result.errors, HasSubstr("100% 4.15M/4.15MB"));
  EXPECT_THAT(result.errors, Not(HasSubstr("\r")));  // a pipe gets plain lines
  const IndexedDataset data(folder / "kjv");
  EXPECT_EQ(data.num_documents(), 1189);
  EXPECT_EQ(data.sequence(1188).back(), 0);
}

TEST(PreprocessCommand, SaysWhatIsWrongInTheLastLine) {
  TemporaryFolder folder;
  spill(folder / "a.jsonl", "{\"text\": \"fine\"}\n{\"text\": \n");
  const auto result = run_program(fmt::format("preprocess --input {} --output-prefix {} {}",
                                              folder / "a.jsonl", folder / "a", kTokenizer));
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(last_line(result.errors), HasSubstr("line 2 of "));
  EXPECT_THAT(folder.names(), ElementsAre("a.jsonl"));
}

TEST(PreprocessCommand, SaysThatThereIsNoSpace) {
  TemporaryFolder folder;
  const auto result = run_program(
      fmt::format("preprocess --input {} --output-prefix {} {}", kText, folder / "a", kTokenizer),
      "ulimit -f 512;");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(last_line(result.errors),
              AllOf(HasSubstr("a_text_document.bin"), HasSubstr("File too large")));
  EXPECT_THAT(folder.names(), ElementsAre());
}

}  // namespace
}  // namespace megatron
