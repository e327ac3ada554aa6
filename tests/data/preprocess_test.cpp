// preprocess(): documents, their order, invalid input, full disks.
#include "megatron/data/preprocess.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "tests/data/preprocess_fixture.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(PreprocessTest, WritesAFileAsOneDocument) {
  arguments_.inputs = {put("a.txt", "one\n\ntwo"), put("empty.txt", ""), put("b.txt", "\xff\n")};
  EXPECT_THAT(documents(), ElementsAre("one\n\ntwo", "\xff\n"));
  EXPECT_THAT(folder_.names(), ElementsAre("a.txt", "b.txt", "empty.txt", "out_text_document.bin",
                                           "out_text_document.idx"));
}

TEST_F(PreprocessTest, AppendsEndOfDocumentTokens) {
  arguments_.inputs = {
      put("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"\"}\n{\"text\": \"2\"}\n")};
  arguments_.append_eod = true;
  EXPECT_THAT(documents(), ElementsAre("one<|endoftext|>", "", "2<|endoftext|>"));
}

TEST_F(PreprocessTest, RefusesDocumentsThatAreAllEmpty) {
  arguments_.inputs = {put("a.jsonl", "{\"text\":\"\"}\n{\"text\":\"\"}\n")};
  arguments_.append_eod = true;
  EXPECT_THAT(error(), HasSubstr("2 documents, all of them empty"));
  EXPECT_THAT(folder_.names(), ElementsAre("a.jsonl"));
  arguments_.inputs = {put("a.jsonl", "{\"q\":\"why\",\"a\":\"\"}\n")};
  arguments_.json_keys = {"q", "a"};
  EXPECT_THAT(error(), HasSubstr("under \"a\""));
}

TEST_F(PreprocessTest, KeepsTheOrderOfManySmallDocuments) {
  std::string lines;
  std::vector<std::string> expected;
  for (int i = 0; i < 20000; ++i) {
    expected.push_back(
        fmt::format("document {} {}", i, std::string(static_cast<size_t>(i % 97), 'x')));
    lines += nlohmann::json{{"text", expected.back()}}.dump() + "\n";
  }
  arguments_.inputs = {put("a.jsonl", lines)};
  for (const int64_t workers : {1, 4}) {
    arguments_.workers = workers;
    EXPECT_EQ(documents(), expected);
  }
}

TEST_F(PreprocessTest, RefusesInvalidInput) {
  EXPECT_THAT(error(), HasSubstr("--input"));
  arguments_.inputs = {folder_ / "missing.txt"};
  EXPECT_THAT(error(), HasSubstr("missing.txt"));
  arguments_.inputs = {folder_ / "."};
  EXPECT_THAT(error(), HasSubstr("folder"));
  arguments_.inputs = {put("empty.txt", "")};
  EXPECT_THAT(error(), HasSubstr("found none"));
  arguments_.inputs = {put("a.txt.gz", "\x1f\x8b\x08 and so on")};
  EXPECT_THAT(error(), HasSubstr("a.txt.gz is gzip-compressed"));
  arguments_.inputs = {put("a.txt.gz", "PAR1\x15\x04 and so on")};
  EXPECT_THAT(error(), HasSubstr("a.txt.gz is Parquet"));
  arguments_.inputs = {put("a.txt", "x")};
  arguments_.json_keys = {"a", "b"};
  EXPECT_THAT(error(), HasSubstr("JSON lines for several --json-keys"));
  arguments_.json_keys = {"a", "a"};
  EXPECT_THAT(error(), HasSubstr("once"));
  arguments_.json_keys = {"text"};
  arguments_.document_start = "(";
  EXPECT_THAT(error(), HasSubstr("regular expression"));
  arguments_.document_start = "";
  arguments_.workers = 0;
  EXPECT_THAT(error(), HasSubstr("workers"));
  EXPECT_THAT(folder_.names(), ElementsAre("a.txt", "a.txt.gz", "empty.txt"));
}

TEST_F(PreprocessTest, LeavesNoFilesWhenTheDiskIsFull) {
  arguments_.inputs = {kKjv};
  arguments_.workers = 2;
  const auto fill = [this] {
    rlimit limit{1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) std::_Exit(3);
    std::fputs(error().c_str(), stderr);
    std::exit(5);
  };
  EXPECT_EXIT(fill(), ::testing::ExitedWithCode(5), "out_text_document.bin .*File too large");
  EXPECT_THAT(folder_.names(), IsEmpty());
}

TEST_F(PreprocessTest, ReportsProgress) {
  arguments_.inputs = {kKjv};
  int64_t calls = 0;
  int64_t last = 0;
  preprocess(arguments_, ByteTokenizer(), [&](const PreprocessProgress& progress) {
    ++calls;
    EXPECT_GT(progress.bytes_done, last);
    EXPECT_EQ(progress.bytes_total, 4152750);
    last = progress.bytes_done;
  });
  EXPECT_GE(calls, 15);
  EXPECT_EQ(last, 4152750);
}

}  // namespace
}  // namespace megatron
