// The files of GPTDataset's indices: names, contents, damage.
#include "megatron/data/gpt_dataset_cache.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/data/md5.h"
#include "megatron/formats/npy.h"

#include "tests/data/numbered_documents.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(Md5, AgreesWithTheRfc) {
  EXPECT_EQ(md5_hex(""), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(md5_hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(
      md5_hex("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
      "57edf4a22be3c955ac49da2e2107b67a");
}

TEST(GPTDatasetCache, DescribesADatasetLikeMegatron) {
  const auto expected = golden("gpt_dataset.json")["cache_description"];
  GPTDatasetIndexRequest request;
  request.num_samples = 100;
  request.sequence_length = 8;
  const std::string text =
      gpt_dataset_description("/data/x_text_document", request, Split::train, "969,30,1",
                              R"({"class": "my.Tok", "tokenizer_path": null})");
  EXPECT_EQ(text, expected["text"].is_array() ? "" : expected["text"].get<std::string>());
  EXPECT_EQ(md5_hex(text), expected["md5"].get<std::string>());
}

class GPTDatasetCacheTest : public ::testing::Test {
 protected:
  GPTDatasetIndex get(bool may_write = true) {
    GPTDatasetCacheRequest cache;
    cache.folder = folder_ / "cache";
    cache.description = "description";
    cache.split = Split::valid;
    cache.may_write = may_write;
    cache.note = [this](const std::string& line) { notes_.push_back(line); };
    return load_or_build_gpt_dataset_index(data_, request_, cache);
  }
  std::string file(const std::string& name) {
    return folder_ / ("cache/" + md5_hex("description") + "-GPTDataset-valid-" + name);
  }
  void expect_built(const GPTDatasetIndex& index) {
    const auto built = build_gpt_dataset_index(data_, request_);
    EXPECT_EQ(copied(index.document_index), copied(built.document_index));
    EXPECT_EQ(copied(index.sample_index), copied(built.sample_index));
    EXPECT_EQ(copied(index.shuffle_index), copied(built.shuffle_index));
  }

  TemporaryFolder folder_;
  nlohmann::json one_ = golden("gpt_dataset.json")["gpt"][6];
  NumberedDocuments data_{one_["lengths"].get<std::vector<int32_t>>()};
  GPTDatasetIndexRequest request_ = request_of(one_);
  std::vector<std::string> notes_;
};

TEST_F(GPTDatasetCacheTest, WritesOnceThenReads) {
  expect_built(get());
  for (const char* name : {"description.txt", "document_index.npy", "sample_index.npy",
                           "shuffle_index.npy", "checksum.json"}) {
    EXPECT_TRUE(std::filesystem::exists(file(name))) << name;
  }
  const auto time = std::filesystem::last_write_time(file("sample_index.npy"));
  expect_built(get());
  EXPECT_EQ(std::filesystem::last_write_time(file("sample_index.npy")), time);
  expect_built(get(/*may_write=*/false));
  EXPECT_THAT(notes_, IsEmpty());
}

TEST(GPTDatasetCache, DefaultsToMegatronsFolder) {
  EXPECT_EQ(gpt_dataset_cache_folder("", "/data/x_text_document"),
            "/data/cache/GPTDataset_indices");
  EXPECT_EQ(gpt_dataset_cache_folder("", "x_text_document"), "cache/GPTDataset_indices");
  EXPECT_EQ(gpt_dataset_cache_folder("/fast/disk", "/data/x_text_document"), "/fast/disk");
}

// The writer maps its files too, so that one copy serves all ranks of a machine.
TEST_F(GPTDatasetCacheTest, MapsTheFilesThatItWrote) {
  const GPTDatasetIndex index = get();
  const auto maps = slurp("/proc/self/maps");
  EXPECT_THAT(maps, HasSubstr(file("sample_index.npy")));
}

TEST_F(GPTDatasetCacheTest, WritesOnlyWhereAllowed) {
  expect_built(get(/*may_write=*/false));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "cache"));
}

TEST_F(GPTDatasetCacheTest, RebuildsDamagedFiles) {
  get();
  for (const char* name : {"description.txt", "document_index.npy", "sample_index.npy",
                           "shuffle_index.npy", "checksum.json"}) {
    const std::string whole = slurp(file(name));
    std::string flipped = whole;
    flipped[flipped.size() - 2] ^= 1;
    for (const std::string& damaged : {flipped, whole.substr(0, whole.size() / 2), std::string()}) {
      notes_.clear();
      spill(file(name), damaged);
      expect_built(get());
      EXPECT_THAT(notes_, SizeIs(1)) << name;
      EXPECT_EQ(slurp(file(name)), whole) << name;
    }
    std::filesystem::remove(file(name));
    expect_built(get());
    EXPECT_EQ(slurp(file(name)), whole) << name;
  }
}

TEST_F(GPTDatasetCacheTest, DetectsChangedData) {
  get();
  auto lengths = one_["lengths"].get<std::vector<int32_t>>();
  lengths[3] += 1;
  data_ = NumberedDocuments(lengths);
  expect_built(get());
  EXPECT_THAT(notes_, SizeIs(1));
}

TEST_F(GPTDatasetCacheTest, BuildsInMemoryIfTheFolderCannotBeWritten) {
  spill(folder_ / "cache", "a file where the folder should be");
  expect_built(get());
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("--data-cache-path")));
}

TEST(Npy, HasNumpysLayout) {
  TemporaryFolder folder;
  const std::vector<int32_t> values = {1, 2, 3, 4, 5, 6};
  write_npy(folder / "x.npy", "<i4", 3, 2, std::as_bytes(std::span(values)));
  const std::string text = slurp(folder / "x.npy");
  EXPECT_EQ(text.size(), 128u + 24u);
  EXPECT_EQ(text.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_EQ(text.substr(8, 2), std::string("\x76\x00", 2));
  EXPECT_EQ(text.substr(10, 59), "{'descr': '<i4', 'fortran_order': False, 'shape': (3, 2), }");
  EXPECT_EQ(text[127], '\n');
  EXPECT_EQ(read_npy(folder / "x.npy", "<i4", 2).rows, 3);
  EXPECT_THROW(read_npy(folder / "x.npy", "<i4", 0), Error);
  EXPECT_THROW(read_npy(folder / "x.npy", "<u4", 2), Error);
  // Newer versions of numpy pad the header further.
  std::string padded = text.substr(0, 127) + std::string(64, ' ') + text.substr(127);
  padded[8] = '\xb6';
  spill(folder / "padded.npy", padded);
  EXPECT_EQ(read_npy(folder / "padded.npy", "<i4", 2).rows, 3);
}

}  // namespace
}  // namespace megatron
