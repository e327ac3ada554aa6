// megatron preprocess as a library function: documents, order, cuts, bad input, full disks.
#include "megatron/data/preprocess.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/data/document_batch.h"
#include "megatron/data/indexed_dataset.h"
#include "megatron/tokenizers/byte_tokenizer.h"
#include "megatron/tokenizers/tokenizer_json.h"
#include "megatron/tokenizers/vocab_merges.h"

#include "tests/data/golden.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kChapterHeading = R"(^[0-9A-Z][A-Za-z ]* [0-9]+$)";
const std::string kKjv = std::string(EXAMPLES_DIR) + "/data/kjv.txt";

class PreprocessTest : public ::testing::Test {
 protected:
  std::string put(const std::string& name, const std::string& text) {
    spill(folder_ / name, text);
    return folder_ / name;
  }

  PreprocessResult run(const Tokenizer& tokenizer) { return preprocess(arguments_, tokenizer); }

  // Each document's bytes, with the byte tokenizer.
  std::vector<std::string> documents() {
    const ByteTokenizer tokenizer;
    const IndexedDataset data(run(tokenizer).prefixes.at(0));
    std::vector<std::string> texts;
    for (int64_t document = 0; document < data.num_documents(); ++document) {
      std::string text;
      for (int64_t i = data.document_boundary(document); i < data.document_boundary(document + 1);
           ++i) {
        text += tokenizer.decode(data.sequence(i));
      }
      texts.push_back(text);
    }
    return texts;
  }

  std::string error() {
    try {
      run(ByteTokenizer());
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
  PreprocessArguments arguments_{.inputs = {}, .output_prefix = folder_ / "out"};
};

TEST_F(PreprocessTest, MakesADocumentOfAFile) {
  arguments_.inputs = {put("a.txt", "one\n\ntwo"), put("empty.txt", ""), put("b.txt", "\xff\n")};
  EXPECT_THAT(documents(), ElementsAre("one\n\ntwo", "\xff\n"));
  EXPECT_THAT(folder_.names(), ElementsAre("a.txt", "b.txt", "empty.txt", "out_text_document.bin",
                                           "out_text_document.idx"));
}

TEST_F(PreprocessTest, MakesADocumentOfAJsonLine) {
  arguments_.inputs = {
      put("a.jsonl",
          "{\"text\": \"one\\n\"}\n\n{\"id\": 2, \"text\": \"\"}\r\n{\"text\": \"\\u00e9\"}")};
  EXPECT_THAT(documents(), ElementsAre("one\n", "", "\xc3\xa9"));
}

TEST_F(PreprocessTest, AppendsTheEndOfEachDocument) {
  arguments_.inputs = {
      put("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"\"}\n{\"text\": \"2\"}\n")};
  arguments_.append_eod = true;
  EXPECT_THAT(documents(), ElementsAre("one<|endoftext|>", "", "2<|endoftext|>"));
}

TEST_F(PreprocessTest, WritesEachKeyByItself) {
  arguments_.inputs = {put("a.jsonl", R"({"q": "why", "a": "so"})")};
  arguments_.json_keys = {"q", "a"};
  const ByteTokenizer tokenizer;
  const auto prefixes = run(tokenizer).prefixes;
  EXPECT_THAT(prefixes, ElementsAre(folder_ / "out_q_document", folder_ / "out_a_document"));
  EXPECT_EQ(tokenizer.decode(IndexedDataset(prefixes[0]).sequence(0)), "why");
  EXPECT_EQ(tokenizer.decode(IndexedDataset(prefixes[1]).sequence(0)), "so");
}

TEST_F(PreprocessTest, OpensADocumentAtEachMatchingLine) {
  arguments_.inputs = {put("a.txt", "\n\nOne 1\n\ntext 7 \nTwo 2\r\nmore\nno Three 3\n\nThree 3\n"),
                       put("b.txt", "tail")};
  arguments_.document_start = R"(^[A-Z][a-z]+ [0-9]+$)";
  EXPECT_THAT(documents(), ElementsAre("\n\nOne 1\n\ntext 7 \n", "Two 2\r\nmore\nno Three 3\n\n",
                                       "Three 3\n", "tail"));
}

TEST_F(PreprocessTest, FindsTheChaptersOfTheExampleText) {
  arguments_.inputs = {kKjv};
  arguments_.document_start = kChapterHeading;
  const auto chapters = documents();
  EXPECT_EQ(chapters.size(), 1189u);
  EXPECT_EQ(chapters[1].substr(0, 11), "Genesis 2\n\n");
  EXPECT_EQ(chapters.back().substr(0, 14), "Revelation 22\n");
  EXPECT_EQ(fmt::format("{}", fmt::join(chapters, "")), slurp(kKjv));
}

// A long document is cut for the workers; its ids must be those of the whole text, with any
// tokenizer, any number of workers.
TEST_F(PreprocessTest, EncodesALongDocumentAsAWhole) {
  arguments_.inputs = {kKjv};
  const auto gpt2 =
      load_vocab_merges(golden_path("gpt2/vocab.json"), golden_path("gpt2/merges.txt"));
  const auto small = load_tokenizer_json(std::string(EXAMPLES_DIR) + "/data/tokenizer.json");
  for (const Tokenizer* tokenizer : {gpt2.get(), small.get()}) {
    const auto expected = tokenizer->encode(slurp(kKjv));
    std::string bin;
    std::string idx;
    for (const int64_t workers : {1, 4}) {
      arguments_.workers = workers;
      const auto result = run(*tokenizer);
      EXPECT_EQ(result.totals.tokens, std::ssize(expected));
      EXPECT_EQ(result.totals.bytes_done, result.totals.bytes_total);
      const std::string prefix = result.prefixes[0];
      if (workers == 1) {
        bin = slurp(prefix + ".bin");
        idx = slurp(prefix + ".idx");
        EXPECT_EQ(IndexedDataset(prefix).sequence(0), expected);
      }
      EXPECT_EQ(slurp(prefix + ".bin"), bin) << workers;
      EXPECT_EQ(slurp(prefix + ".idx"), idx) << workers;
    }
  }
}

// Line ends of two bytes, and no lines at all, leave only spaces to cut at.
TEST_F(PreprocessTest, CutsWhereNoWordReachesAcross) {
  const auto small = load_tokenizer_json(std::string(EXAMPLES_DIR) + "/data/tokenizer.json");
  std::string lines;
  for (const char c : slurp(kKjv).substr(0, 1 << 20))
    lines += c == '\n' ? "\r\n" : std::string(1, c);
  std::string no_lines = slurp(kKjv).substr(0, 1 << 20);
  std::replace(no_lines.begin(), no_lines.end(), '\n', ' ');
  for (const std::string& text : {lines, no_lines}) {
    arguments_.inputs = {put("a.txt", text)};
    EXPECT_EQ(IndexedDataset(run(*small).prefixes[0]).sequence(0), small->encode(text));
  }
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

// What bounds the memory: no stretch is larger than asked for, however large the file.
TEST(DocumentBatchReader, HandsOutBoundedStretches) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200000; ++i) text += fmt::format("line {} of a long file\n", i);
  spill(folder / "a.txt", text);
  spill(folder / "b.txt", std::string(40 << 20, 'x'));  // no place to cut
  DocumentBatchReader reader({folder / "a.txt", folder / "b.txt"}, "");
  size_t batches = 0;
  std::string read;
  size_t of_b = 0;
  while (const auto batch = reader.next()) {
    ++batches;
    if (batch->file == folder / "a.txt") {
      EXPECT_LE(batch->text.size(), size_t{256} << 10);
      read += batch->text;
    } else {
      EXPECT_LE(batch->text.size(), size_t{16} << 20);
      of_b += batch->text.size();
    }
  }
  EXPECT_EQ(read, text);
  EXPECT_EQ(of_b, size_t{40} << 20);
  EXPECT_GE(batches, text.size() / (256 << 10) + 3);
}

TEST_F(PreprocessTest, NamesTheFirstBadLine) {
  std::string lines;
  for (int i = 1; i <= 50000; ++i) {
    if (i == 40001) lines += "{\"text\": \"unfinished\n";
    if (i == 45000) lines += "not JSON either\n";
    lines += "{\"text\": \"fine, and long enough for several stretches\"}\n";
  }
  arguments_.inputs = {put("a.jsonl", lines)};
  for (const int64_t workers : {1, 4}) {
    arguments_.workers = workers;
    EXPECT_THAT(error(), HasSubstr("line 40001 of "));
    EXPECT_THAT(folder_.names(), ElementsAre("a.jsonl"));
  }
}

TEST_F(PreprocessTest, NamesWhatALineLacks) {
  arguments_.inputs = {put("a.jsonl", "{\"text\": \"x\"}\n{\"body\": \"x\"}\n")};
  EXPECT_THAT(error(), HasSubstr("line 2 of "));
  arguments_.inputs = {put("a.jsonl", "{\"text\": 5}\n")};
  EXPECT_THAT(error(), HasSubstr("number"));
  arguments_.inputs = {put("a.jsonl", "[1]\n")};
  EXPECT_THAT(error(), HasSubstr("line 1 of "));
  arguments_.inputs = {put("a.jsonl", "{\"text\": \"\xff\"}\n")};
  EXPECT_THAT(error(), HasSubstr("line 1 of "));
}

TEST_F(PreprocessTest, RefusesInputThatCannotBe) {
  EXPECT_THAT(error(), HasSubstr("--input"));
  arguments_.inputs = {folder_ / "missing.txt"};
  EXPECT_THAT(error(), HasSubstr("missing.txt"));
  arguments_.inputs = {folder_ / "."};
  EXPECT_THAT(error(), HasSubstr("folder"));
  arguments_.inputs = {put("empty.txt", "")};
  EXPECT_THAT(error(), HasSubstr("found none"));
  arguments_.inputs = {put("a.txt.gz", "\x1f\x8b\x08 and so on")};
  EXPECT_THAT(error(), HasSubstr("compressed"));
  arguments_.inputs = {put("a.txt", "x")};
  arguments_.json_keys = {"a", "b"};
  EXPECT_THAT(error(), HasSubstr("JSON lines"));
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

TEST_F(PreprocessTest, LeavesNothingWhenThereIsNoSpace) {
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

TEST_F(PreprocessTest, TellsItsProgress) {
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
