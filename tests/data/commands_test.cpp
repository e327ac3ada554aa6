// megatron tokenize, preprocess and train on their data, run as a user does.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/data/indexed_dataset.h"
#include "megatron/data/indexed_dataset_builder.h"

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

TEST(TokenizeCommand, EncodesAndDecodes) {
  const std::string gpt2 = "--vocab-file " + golden_path("gpt2/vocab.json") + " --merge-file " +
                           golden_path("gpt2/merges.txt");
  const auto ids = run_program("tokenize " + gpt2, "", "Hello world\n");
  EXPECT_EQ(ids.status, 0) << ids.errors;
  EXPECT_EQ(ids.output, "15496 995 198\n");
  EXPECT_EQ(run_program("tokenize --decode " + gpt2, "", ids.output).output, "Hello world\n");
  EXPECT_EQ(run_program("tokenize " + gpt2, "", "").output, "\n");
}

TEST(TokenizeCommand, DecodesAnyBytes) {
  std::string text = "no newline at the end, \xff\xfe, a zero: ";
  text += '\0';
  const auto ids = run_program("tokenize " + kTokenizer, "", text);
  EXPECT_EQ(run_program("tokenize --decode " + kTokenizer, "", ids.output).output, text);
  const std::string book = slurp(kText);
  const auto of_book = run_program("tokenize " + kTokenizer, "", book);
  EXPECT_EQ(run_program("tokenize --decode " + kTokenizer, "", of_book.output).output, book);
}

TEST(TokenizeCommand, RefusesTextThatIsNotAnId) {
  for (const char* input : {"1 two", "4096", "-1", "1.5"}) {
    const auto result = run_program("tokenize --decode " + kTokenizer, "", input);
    EXPECT_EQ(result.status, 1) << input;
    EXPECT_THAT(last_line(result.errors), HasSubstr("Expected")) << input;
    EXPECT_EQ(result.output, "");
  }
}

TEST(TokenizeCommand, RefusesOtherFilesAsTokenizers) {
  const auto result = run_program("tokenize --tokenizer-model " + kText, "", "x");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(last_line(result.errors), AllOf(HasSubstr("kjv.txt"), HasSubstr("not valid JSON")));
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

TEST(PreprocessCommand, SaysThatNoLineStartsADocument) {
  TemporaryFolder folder;
  spill(folder / "a.txt", "one\ntwo\nthree\n");
  const auto run = [&](const std::string& expression) {
    return run_program(
        fmt::format("preprocess --input {} --output-prefix {} --tokenizer-type ByteTokenizer "
                    "--document-start '{}'",
                    folder / "a.txt", folder / "a", expression));
  };
  EXPECT_THAT(run("^Chapter").errors, HasSubstr("'^Chapter' matches no line within a file"));
  EXPECT_THAT(run("^t").errors, Not(HasSubstr("matches no line")));
}

TEST(PreprocessCommand, NamesTheInvalidLineInItsLastLine) {
  TemporaryFolder folder;
  spill(folder / "a.jsonl", "{\"text\": \"fine\"}\n{\"text\": \n");
  const auto result = run_program(fmt::format("preprocess --input {} --output-prefix {} {}",
                                              folder / "a.jsonl", folder / "a", kTokenizer));
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(last_line(result.errors), HasSubstr("line 2 of "));
  EXPECT_THAT(folder.names(), ElementsAre("a.jsonl"));
}

TEST(PreprocessCommand, ReadsJsonLinesFromAPipe) {
  TemporaryFolder folder;
  const auto result = run_program(
      fmt::format("preprocess --input /dev/stdin --output-prefix {} --tokenizer-type ByteTokenizer",
                  folder / "a"),
      "", "{\"text\":\"one\"}\n{\"text\":\"three\",\"score\":NaN}\n");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, EndsWith("2 documents, 8 tokens\n"));
  EXPECT_THAT(result.errors, HasSubstr("note: /dev/stdin is read as JSON lines"));
}

TEST(PreprocessCommand, CountsOneDocument) {
  TemporaryFolder folder;
  const auto result = run_program(
      fmt::format("preprocess --input /dev/stdin --output-prefix {} --tokenizer-type ByteTokenizer",
                  folder / "a"),
      "", "{\"text\":\"one\"}\n");
  EXPECT_THAT(result.output, EndsWith("\n1 document, 3 tokens\n"));
}

// The first rank writes the index files; a second run writes none.
TEST(TrainCommand, StoresDatasetIndicesBesideTheData) {
  TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += fmt::format("{{\"text\":\"document {}\"}}\n", i);
  spill(folder / "a.jsonl", lines);
  const auto preprocessed = run_program(
      fmt::format("preprocess --input {} --output-prefix {} --tokenizer-type ByteTokenizer",
                  folder / "a.jsonl", folder / "a"));
  ASSERT_EQ(preprocessed.status, 0) << preprocessed.errors;
  const std::string command = fmt::format(
      "train --data-path {} --tokenizer-type ByteTokenizer --num-layers 1 --hidden-size 16 "
      "--num-attention-heads 2 --seq-length 8 --max-position-embeddings 8 --micro-batch-size 1 "
      "--global-batch-size 2 --train-iters 1 --eval-iters 1 --lr 1e-3 --nproc 2 --split '9, 1, 0'",
      folder / "a");
  const auto result = run_program(command);
  ASSERT_EQ(result.status, 0) << result.errors;
  const std::string indices = folder / "cache/GPTDataset_indices";
  const auto sample_files = [&indices] {
    std::map<std::string, std::filesystem::file_time_type> files;
    for (const auto& entry : std::filesystem::directory_iterator(indices)) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with("-sample_index.npy")) files[name] = entry.last_write_time();
    }
    return files;
  };
  const auto first = sample_files();
  EXPECT_EQ(first.size(), 2u);  // training and validation
  ASSERT_EQ(run_program(command).status, 0);
  EXPECT_EQ(sample_files(), first);
}

TEST(TrainCommand, RefusesEmptyDocuments) {
  TemporaryFolder folder;
  IndexedDatasetBuilder builder(folder / "a_text_document", TokenType::uint16);
  builder.end_document();
  builder.finalize();
  const auto result = run_program(fmt::format(
      "train --data-path {} --tokenizer-type ByteTokenizer --num-layers 1 --hidden-size 16 "
      "--num-attention-heads 2 --seq-length 8 --max-position-embeddings 8 --micro-batch-size 1 "
      "--global-batch-size 1 --train-iters 1 --lr 1e-3",
      folder / "a"));
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(last_line(result.errors), HasSubstr("but its one document is empty"));
}

TEST(PreprocessCommand, ReportsAFullDisk) {
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
