// Plain text: where documents start, and how long documents are split between workers.
#include "megatron/data/document_batch.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/tokenizers/tokenizer_json.h"
#include "megatron/tokenizers/vocab_merges.h"

#include "tests/data/preprocess_fixture.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(PreprocessTest, StartsDocumentsAtMatchingLines) {
  arguments_.inputs = {put("a.txt", "\n\nOne 1\n\ntext 7 \nTwo 2\r\nmore\nno Three 3\n\nThree 3\n"),
                       put("b.txt", "tail")};
  arguments_.document_start = R"(^[A-Z][a-z]+ [0-9]+$)";
  EXPECT_THAT(documents(), ElementsAre("\n\nOne 1\n\ntext 7 \n", "Two 2\r\nmore\nno Three 3\n\n",
                                       "Three 3\n", "tail"));
}

TEST_F(PreprocessTest, StartsDocumentsAtTheChaptersOfTheExampleText) {
  arguments_.inputs = {kKjv};
  arguments_.document_start = kChapterHeading;
  const auto chapters = documents();
  EXPECT_EQ(chapters.size(), 1189u);
  EXPECT_EQ(chapters[1].substr(0, 11), "Genesis 2\n\n");
  EXPECT_EQ(chapters.back().substr(0, 14), "Revelation 22\n");
  EXPECT_EQ(fmt::format("{}", fmt::join(chapters, "")), slurp(kKjv));
}

TEST_F(PreprocessTest, StartsDocumentsAtLongLines) {
  std::string text;
  std::vector<std::string> expected;
  for (int i = 0; i < 10; ++i) {
    expected.push_back(fmt::format("Chapter {} {}\n", i, std::string(i % 2 == 1 ? 6000 : 10, 'x')));
    text += expected.back();
  }
  expected.push_back("Chapter 10 " + std::string(700000, 'y') + " end\n");  // beyond a chunk
  text += expected.back();
  arguments_.inputs = {put("a.txt", text)};
  for (const char* expression : {"^Chapter [0-9]+", "(x|end)$"}) {
    arguments_.document_start = expression;
    EXPECT_EQ(documents(), expected) << expression;
  }
}

TEST_F(PreprocessTest, StartsDocumentsAtLinesThatAreNotUtf8) {
  arguments_.inputs = {put("a.txt", "Chapter 1\ntext\nChapter 2 caf\xe9\ntext\n")};
  arguments_.document_start = "^Chapter [0-9]+";
  EXPECT_THAT(documents(), ElementsAre("Chapter 1\ntext\n", "Chapter 2 caf\xe9\ntext\n"));
}

// A long document is split between workers; its ids must be those of the full text, with any
// tokenizer and any number of workers.
TEST_F(PreprocessTest, EncodesALongDocumentAsOneText) {
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

// Line ends of two bytes, and text without line ends, leave only spaces to cut at.
TEST_F(PreprocessTest, SplitsTextWithoutSimpleLineEnds) {
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

// hf_tiny's tokenizer with `change` applied to its JSON.
template <typename Change>
std::unique_ptr<Tokenizer> changed_tokenizer(const TemporaryFolder& folder, const Change& change) {
  nlohmann::json root = golden("hf_tiny/tokenizer.json");
  change(root);
  spill(folder / "tokenizer.json", root.dump());
  return load_tokenizer_json(folder / "tokenizer.json");
}

TEST_F(PreprocessTest, DoesNotSplitAddedTokens) {
  const auto tokenizer = changed_tokenizer(folder_, [](nlohmann::json& root) {
    root["added_tokens"].push_back({{"id", 512}, {"content", "New York"}});
  });
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "New York,";
  for (const std::string& input :
       {put("a.txt", text), put("b.jsonl", nlohmann::json{{"text", text}}.dump())}) {
    arguments_.inputs = {input};
    EXPECT_EQ(run(*tokenizer).totals.tokens, 200000) << input;
  }
}

TEST_F(PreprocessTest, AddsThePrefixSpaceOnce) {
  const auto tokenizer = changed_tokenizer(
      folder_, [](nlohmann::json& root) { root["pre_tokenizer"]["add_prefix_space"] = true; });
  const std::string text = slurp(kKjv).substr(0, 1 << 20);
  std::string one_line;
  for (const char c : text) one_line += c == ' ' || c == '\n' ? '_' : c;
  for (const std::string& input : {text, one_line}) {
    arguments_.inputs = {put("a.txt", input)};
    EXPECT_EQ(IndexedDataset(run(*tokenizer).prefixes[0]).sequence(0), tokenizer->encode(input));
  }
}

TEST_F(PreprocessTest, EncodesTextUnderAnUnknownExpressionAsOneText) {
  const auto tokenizer = changed_tokenizer(folder_, [](nlohmann::json& root) {
    const nlohmann::json split = {
        {"type", "Split"}, {"pattern", {{"Regex", R"(\w+ \w+|\W)"}}}, {"behavior", "Isolated"}};
    root["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {split, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  });
  const std::string text = slurp(kKjv).substr(0, 1 << 20);
  arguments_.inputs = {put("a.txt", text)};
  EXPECT_EQ(IndexedDataset(run(*tokenizer).prefixes[0]).sequence(0), tokenizer->encode(text));
}

// Bounds the memory: no chunk exceeds 256 KiB, however large the file.
TEST(DocumentBatchReader, ReadsInBoundedChunks) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200000; ++i) text += fmt::format("line {} of a long file\n", i);
  spill(folder / "a.txt", text);
  const auto gpt2 =
      load_vocab_merges(golden_path("gpt2/vocab.json"), golden_path("gpt2/merges.txt"));
  for (const std::string document_start : {"", "^line [0-9]*00 "}) {
    DocumentBatchReader reader({{folder / "a.txt"}, document_start}, *gpt2);
    size_t batches = 0, documents = 0;
    std::string read;
    while (const auto batch = reader.next()) {
      ++batches;
      EXPECT_LE(batch->text.size(), size_t{256} << 10);
      EXPECT_EQ(batch->first_line, 1 + std::ranges::count(read, '\n'));
      read += batch->text;
      documents += batch->document_ends.size();
    }
    EXPECT_EQ(read, text);
    EXPECT_EQ(documents, document_start.empty() ? 1u : 2000u);
    EXPECT_GE(batches, text.size() / (256 << 10));
  }
}

TEST(DocumentBatchReader, ReadsTextWithoutASafeCutInFull) {
  TemporaryFolder folder;
  spill(folder / "a.txt", std::string(3 << 20, 'x'));
  const auto gpt2 =
      load_vocab_merges(golden_path("gpt2/vocab.json"), golden_path("gpt2/merges.txt"));
  DocumentBatchReader reader({{folder / "a.txt"}}, *gpt2);
  const auto batch = reader.next();
  ASSERT_TRUE(batch.has_value());
  EXPECT_EQ(batch->text.size(), size_t{3} << 20);
  EXPECT_THAT(batch->document_ends, ElementsAre(size_t{3} << 20));
  EXPECT_FALSE(reader.next().has_value());
}

// A file of exactly one chunk: its end shows only in the next read.
TEST(DocumentBatchReader, EndsTheDocumentOfAFileOfOneChunk) {
  TemporaryFolder folder;
  spill(folder / "a.txt", std::string(256 << 10, 'x'));
  const ByteTokenizer tokenizer;
  DocumentBatchReader reader({{folder / "a.txt"}}, tokenizer);
  size_t bytes = 0, documents = 0;
  while (const auto batch = reader.next()) {
    bytes += batch->text.size();
    documents += batch->document_ends.size();
  }
  EXPECT_EQ(bytes, size_t{256} << 10);
  EXPECT_EQ(documents, 1u);
}

}  // namespace
}  // namespace megatron
