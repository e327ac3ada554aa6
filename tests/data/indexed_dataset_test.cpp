// .bin/.idx files: layout, round trips, damage.
#include "megatron/data/indexed_dataset.h"

#include <cstring>
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/data/indexed_dataset_builder.h"

#include "tests/data/golden.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class IndexedDatasetTest : public ::testing::Test {
 protected:
  // Documents of 3, 0 and 3 tokens; the last consists of sequences of 2 and 1.
  void write(TokenType type = TokenType::uint16) {
    IndexedDatasetBuilder builder(prefix_, type);
    builder.add_document(std::vector<int64_t>{1, 2, 3});
    builder.add_document({});
    builder.add_tokens(std::vector<int64_t>{4});
    builder.add_tokens(std::vector<int64_t>{5});
    builder.end_sequence();
    builder.add_tokens(std::vector<int64_t>{6});
    builder.end_sequence();
    builder.end_document();
    builder.finalize();
  }

  std::string error() {
    try {
      IndexedDataset data(prefix_);
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "more than one line";
      return error.what();
    }
    return "no error";
  }

  // The error of opening an .idx with some bytes replaced.
  template <typename T>
  std::string error_with(size_t offset, T value) {
    write();
    std::string index = slurp(prefix_ + ".idx");
    std::memcpy(index.data() + offset, &value, sizeof value);
    spill(prefix_ + ".idx", index);
    return error();
  }

  TemporaryFolder folder_;
  std::string prefix_ = folder_ / "text_document";
};

TEST_F(IndexedDatasetTest, RefusesToTrainOnEmptyDocuments) {
  write();
  IndexedDataset(prefix_).require_tokens();
  IndexedDatasetBuilder builder(prefix_, TokenType::uint16);
  builder.add_document({});
  builder.end_document();
  builder.finalize();
  const IndexedDataset empty(prefix_);
  try {
    empty.require_tokens();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("all of its 2 documents are empty"));
  }
}

TEST_F(IndexedDatasetTest, RoundTrips) {
  for (const TokenType type : {TokenType::uint8, TokenType::int8, TokenType::int16,
                               TokenType::uint16, TokenType::int32, TokenType::int64}) {
    write(type);
    const IndexedDataset data(prefix_);
    EXPECT_EQ(data.token_type(), type);
    EXPECT_EQ(data.num_sequences(), 4);
    EXPECT_EQ(data.num_documents(), 3);
    EXPECT_EQ(data.num_tokens(), 6);
    EXPECT_EQ(data.document_boundary(3), 4);
    EXPECT_THAT(data.sequence(0), ElementsAre(1, 2, 3));
    EXPECT_THAT(data.sequence(1), IsEmpty());
    EXPECT_THAT(data.sequence(2), ElementsAre(4, 5));
    EXPECT_THAT(data.sequence(3), ElementsAre(6));
    std::vector<int64_t> part;
    data.append_tokens(0, 1, 2, part);
    EXPECT_THAT(part, ElementsAre(2, 3));
    EXPECT_THROW(data.append_tokens(0, 2, 2, part), Error);
    EXPECT_THROW(data.append_tokens(4, 0, 0, part), Error);
    EXPECT_THROW(data.sequence(-1), Error);
  }
}

TEST_F(IndexedDatasetTest, LeavesOnlyTwoFiles) {
  write();
  EXPECT_THAT(folder_.names(), ElementsAre("text_document.bin", "text_document.idx"));
}

TEST_F(IndexedDatasetTest, HasMegatronsLayout) {
  IndexedDatasetBuilder builder(prefix_, TokenType::uint16);
  builder.add_document(std::vector<int64_t>{1, 65535});
  builder.add_document(std::vector<int64_t>{3});
  builder.finalize();
  using namespace std::string_literals;
  EXPECT_EQ(slurp(prefix_ + ".bin"), "\x01\x00\xff\xff\x03\x00"s);
  EXPECT_EQ(slurp(prefix_ + ".idx"), "MMIDIDX\0\0"s + "\x01\0\0\0\0\0\0\0"s + "\x08"s +
                                         "\x02\0\0\0\0\0\0\0"s + "\x03\0\0\0\0\0\0\0"s +
                                         "\x02\0\0\0"s + "\x01\0\0\0"s + "\0\0\0\0\0\0\0\0"s +
                                         "\x04\0\0\0\0\0\0\0"s + "\0\0\0\0\0\0\0\0"s +
                                         "\x01\0\0\0\0\0\0\0"s + "\x02\0\0\0\0\0\0\0"s);
}

TEST_F(IndexedDatasetTest, SelectsTheTypeByTheVocabulary) {
  EXPECT_EQ(token_type_for(65499), TokenType::uint16);
  EXPECT_EQ(token_type_for(65500), TokenType::int32);
}

TEST_F(IndexedDatasetTest, ReadsAnEmptyDataset) {
  IndexedDatasetBuilder(prefix_, TokenType::int32).finalize();
  const IndexedDataset data(prefix_);
  EXPECT_EQ(data.num_sequences(), 0);
  EXPECT_EQ(data.num_documents(), 0);
}

TEST_F(IndexedDatasetTest, RefusesIdsBeyondTheTokenType) {
  IndexedDatasetBuilder builder(prefix_, TokenType::uint16);
  EXPECT_THROW(builder.add_tokens(std::vector<int64_t>{65536}), Error);
  EXPECT_THROW(builder.add_tokens(std::vector<int64_t>{-1}), Error);
}

TEST_F(IndexedDatasetTest, RefusesToFinalizeAnOpenDocument) {
  IndexedDatasetBuilder builder(prefix_, TokenType::uint16);
  builder.add_tokens(std::vector<int64_t>{1});
  EXPECT_THROW(builder.end_document(), Error);
  EXPECT_THROW(builder.finalize(), Error);
  builder.end_sequence();
  EXPECT_THROW(builder.finalize(), Error);
}

TEST_F(IndexedDatasetTest, LeavesNoFilesWhenAbandoned) {
  {
    IndexedDatasetBuilder builder(prefix_, TokenType::uint16);
    builder.add_document(std::vector<int64_t>{1});
  }
  EXPECT_THAT(folder_.names(), IsEmpty());
}

TEST_F(IndexedDatasetTest, KeepsTheOldFilesWhenWritingFails) {
  write();
  const std::string before = slurp(prefix_ + ".idx");
  {
    IndexedDatasetBuilder builder(prefix_, TokenType::uint16);
    builder.add_document(std::vector<int64_t>{9});
  }
  EXPECT_EQ(slurp(prefix_ + ".idx"), before);
  EXPECT_EQ(error(), "no error");
}

TEST_F(IndexedDatasetTest, NamesMissingFiles) {
  EXPECT_THAT(error(), HasSubstr("text_document.idx"));
  write();
  std::filesystem::remove(prefix_ + ".bin");
  EXPECT_THAT(error(), HasSubstr("text_document.bin"));
}

TEST_F(IndexedDatasetTest, AcceptsAFileNameOrTheOutputPrefix) {
  write();
  for (const char* name : {"text_document", "text_document.bin", "text_document.idx"}) {
    EXPECT_EQ(IndexedDataset(folder_ / name).path(), folder_ / "text_document");
  }
  std::filesystem::rename(folder_ / "text_document.idx", folder_ / "a_text_document.idx");
  std::filesystem::rename(folder_ / "text_document.bin", folder_ / "a_text_document.bin");
  EXPECT_EQ(IndexedDataset(folder_ / "a").path(), folder_ / "a_text_document");
}

TEST_F(IndexedDatasetTest, RefusesADamagedIndex) {
  EXPECT_THAT(error_with<char>(0, 'X'), HasSubstr("MMIDIDX"));
  EXPECT_THAT(error_with<uint64_t>(9, 2), HasSubstr("version"));
  EXPECT_THAT(error_with<uint8_t>(17, 7), HasSubstr("code 7"));
  EXPECT_THAT(error_with<uint8_t>(17, 0), HasSubstr("code 0"));
  EXPECT_THAT(error_with<uint64_t>(18, 5), HasSubstr("truncated or damaged"));
  EXPECT_THAT(error_with<uint64_t>(18, ~uint64_t{0}), HasSubstr("truncated or damaged"));
  EXPECT_THAT(error_with<uint64_t>(26, ~uint64_t{0} / 8), HasSubstr("truncated or damaged"));
  EXPECT_THAT(error_with<int32_t>(34, -1), HasSubstr("sequence 0"));
  EXPECT_THAT(error_with<int32_t>(34, 1000), HasSubstr("sequence 0"));
  EXPECT_THAT(error_with<int64_t>(34 + 16, 1000), HasSubstr("12 bytes"));
  EXPECT_THAT(error_with<int64_t>(34 + 16, -8), HasSubstr("byte -8"));
  EXPECT_THAT(error_with<int64_t>(34 + 48, 1), HasSubstr("boundaries"));
  EXPECT_THAT(error_with<int64_t>(34 + 48 + 8, 4), HasSubstr("ascend"));
  EXPECT_THAT(error_with<int64_t>(34 + 48 + 24, 5), HasSubstr("boundaries"));
}

TEST_F(IndexedDatasetTest, RefusesATruncatedIndexOfAnyLength) {
  write();
  const std::string whole = slurp(prefix_ + ".idx");
  for (size_t size = 0; size < whole.size(); ++size) {
    spill(prefix_ + ".idx", whole.substr(0, size));
    EXPECT_THAT(error(), HasSubstr("Expected")) << size << " bytes";
  }
}

TEST_F(IndexedDatasetTest, RefusesABinOfAnotherSize) {
  write();
  const std::string whole = slurp(prefix_ + ".bin");
  for (size_t size = 0; size < whole.size(); ++size) {
    spill(prefix_ + ".bin", whole.substr(0, size));
    EXPECT_THAT(error(), HasSubstr("truncated")) << size << " bytes";
  }
  spill(prefix_ + ".bin", whole + "xx");
  EXPECT_THAT(error(), HasSubstr("do not belong together"));
}

TEST_F(IndexedDatasetTest, ReadsMultimodalFiles) {
  write();
  spill(prefix_ + ".idx", slurp(prefix_ + ".idx") + std::string(4, '\0'));
  EXPECT_EQ(error(), "no error");
}

// A file-size limit in the death test's child process simulates a full disk.
TEST_F(IndexedDatasetTest, ReportsAFullDiskAndLeavesNoFiles) {
  const auto fill = [this] {
    rlimit limit{100000, 100000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) std::_Exit(3);
    try {
      IndexedDatasetBuilder builder(prefix_, TokenType::int64);
      const std::vector<int64_t> document(1000, 7);
      for (int i = 0; i < 1000; ++i) builder.add_document(document);
      builder.finalize();
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
      std::exit(5);
    }
    std::_Exit(4);
  };
  EXPECT_EXIT(fill(), ::testing::ExitedWithCode(5), "text_document.bin .*File too large");
  EXPECT_THAT(folder_.names(), IsEmpty());
}

}  // namespace
}  // namespace megatron
