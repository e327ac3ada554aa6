// GPTDataset's indices against Megatron's own, the samples they give, and the cache of indices.
#include "megatron/data/gpt_dataset.h"

#include <gmock/gmock.h>
#include <set>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/data/gpt_dataset_cache.h"
#include "megatron/data/md5.h"
#include "megatron/formats/npy.h"

#include "tests/data/golden.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Token j of document i is 1000 * i + j, so that a sample shows where it came from.
class NumberedDocuments : public LowLevelDataset {
 public:
  explicit NumberedDocuments(std::vector<int32_t> lengths) : lengths_(std::move(lengths)) {}
  int64_t num_sequences() const override { return std::ssize(lengths_); }
  int32_t sequence_length(int64_t i) const override { return lengths_.at(static_cast<size_t>(i)); }
  void append_tokens(int64_t i, int64_t offset, int64_t count,
                     std::vector<int64_t>& tokens) const override {
    check(offset >= 0 && count >= 0 && offset + count <= sequence_length(i), "Expected inside");
    for (int64_t j = 0; j < count; ++j) tokens.push_back(1000 * i + offset + j);
  }
  std::string path() const override { return "numbered"; }

 private:
  std::vector<int32_t> lengths_;
};

GPTDatasetIndexRequest request_of(const nlohmann::json& one) {
  GPTDatasetIndexRequest request;
  request.sequences = one["documents"].get<std::vector<int32_t>>();
  request.sequence_length = one["sequence_length"];
  if (!one["num_samples"].is_null()) request.num_samples = one["num_samples"].get<int64_t>();
  request.seed = one["seed"];
  request.add_extra_token = one["add_extra_token"] == 1;
  request.drop_last_partial_sequence = one["drop_last"];
  return request;
}

template <typename T>
std::vector<T> copied(std::span<const T> values) {
  return {values.begin(), values.end()};
}

TEST(GPTDatasetIndex, AgreesWithMegatron) {
  const auto cases = golden("gpt_dataset.json")["gpt"];
  ASSERT_EQ(cases.size(), 7u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one["name"].get<std::string>());
    const NumberedDocuments data(one["lengths"].get<std::vector<int32_t>>());
    const auto request = request_of(one);
    const EpochPlan plan = plan_epochs(data, request);
    EXPECT_EQ(plan.tokens_per_epoch, one["tokens_per_epoch"].get<int64_t>());
    EXPECT_EQ(plan.num_epochs, one["num_epochs"].get<int64_t>());
    EXPECT_EQ(plan.separate_final_epoch, one["separate_final_epoch"].get<bool>());
    const auto index = build_gpt_dataset_index(data, request);
    EXPECT_EQ(copied(index.document_index), one["document_index"].get<std::vector<int32_t>>());
    EXPECT_EQ(copied(index.sample_index), one["sample_index"].get<std::vector<SampleStart>>());
    EXPECT_EQ(copied(index.shuffle_index), one["shuffle_index"].get<std::vector<uint32_t>>());
  }
}

TEST(GPTDatasetIndex, RefusesASplitThatHoldsNoSample) {
  const NumberedDocuments data({2, 0, 1});
  GPTDatasetIndexRequest request;
  request.sequences = {0, 1, 2};
  request.sequence_length = 8;
  EXPECT_THROW(build_gpt_dataset_index(data, request), Error);
  request.num_samples = 2;  // by several epochs it can
  EXPECT_GE(build_gpt_dataset_index(data, request).shuffle_index.size(), 2u);
  request.sequences = {};
  EXPECT_THROW(build_gpt_dataset_index(data, request), Error);
  request.sequences = {0, 3};
  EXPECT_THROW(build_gpt_dataset_index(data, request), Error);
}

// Above 2^24 tokens Megatron's count of samples goes through float32: 2^25 + 1 tokens become 2^25
// there, so that the last token makes no sample of its own.
TEST(GPTDatasetIndex, CountsThroughFloat32AsMegatron) {
  const NumberedDocuments data({(1 << 25) + 1});
  GPTDatasetIndexRequest request;
  request.sequences = {0};
  request.sequence_length = 1024;
  request.add_extra_token = false;
  request.drop_last_partial_sequence = false;
  EXPECT_EQ(build_gpt_dataset_index(data, request).shuffle_index.size(), 32768u);
}

// 3 x 5592409 tokens become one more: a fourth sample, for which there are no tokens.
TEST(GPTDatasetIndex, StaysInsideWhereFloat32CountsTooMany) {
  auto data = std::make_shared<NumberedDocuments>(std::vector<int32_t>{16777220, 7});
  GPTDatasetIndexRequest request;
  request.sequences = {0, 1};
  request.sequence_length = 5592409;
  request.add_extra_token = false;
  request.drop_last_partial_sequence = false;
  auto index = build_gpt_dataset_index(*data, request);
  ASSERT_EQ(index.shuffle_index.size(), 4u);
  EXPECT_EQ(index.sample_index[3], index.sample_index[4]);
  const GPTDataset dataset(data, index,
                           {.sequence_length = request.sequence_length, .add_extra_token = false});
  size_t tokens = 0;
  for (int64_t i = 0; i < dataset.size(); ++i) tokens += dataset.text(i).size();
  EXPECT_EQ(tokens, 16777227u);
}

GPTDataset numbered_dataset(const nlohmann::json& one, GPTSampleOptions options = {}) {
  auto data = std::make_shared<NumberedDocuments>(one["lengths"].get<std::vector<int32_t>>());
  const auto request = request_of(one);
  options.sequence_length = request.sequence_length;
  options.add_extra_token = request.add_extra_token;
  auto index = build_gpt_dataset_index(*data, request);
  return GPTDataset(std::move(data), std::move(index), options);
}

TEST(GPTDataset, ReadsAcrossDocuments) {
  // Documents in the order 2, 1, 5, ...: the sample from entry 0, offset 4 has the tail of document
  // 2 (tokens 4, 5, 6), then the head of document 1 (0, 1).
  const auto one = golden("gpt_dataset.json")["gpt"][0];
  const GPTDataset dataset = numbered_dataset(one);
  EXPECT_EQ(dataset.size(), 7);
  EXPECT_THAT(dataset.text(6), ElementsAre(2004, 2005, 2006, 1000, 1001));
  const GPTSample sample = dataset.sample(6);
  EXPECT_THAT(sample.tokens, ElementsAre(2004, 2005, 2006, 1000));
  EXPECT_THAT(sample.labels, ElementsAre(2005, 2006, 1000, 1001));
  EXPECT_THAT(sample.loss_mask, ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(sample.position_ids, ElementsAre(0, 1, 2, 3));
  EXPECT_THROW(dataset.sample(7), Error);
  EXPECT_THROW(dataset.sample(-1), Error);
}

TEST(GPTDataset, GivesEveryPositionOfAnEpochOnce) {
  const auto one = golden("gpt_dataset.json")["gpt"][0];
  const GPTDataset dataset = numbered_dataset(one);
  std::multiset<int64_t> tokens;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    for (const int64_t token : dataset.sample(i).tokens) tokens.insert(token);
  }
  EXPECT_THAT(tokens, SizeIs(28));  // of 30; the last two are a part sample and a label
  EXPECT_EQ(std::set<int64_t>(tokens.begin(), tokens.end()).size(), tokens.size());
}

TEST(GPTDataset, PadsTheLastSampleWithoutLoss) {
  const auto one = golden("gpt_dataset.json")["gpt"][5];  // no extra token, partial sample kept
  const GPTDataset dataset = numbered_dataset(one);
  EXPECT_EQ(dataset.size(), 8);
  // Sample 7 of the sample index, the last, has two tokens; the shuffle puts it last.
  EXPECT_THAT(dataset.text(7), SizeIs(2));
  const GPTSample sample = dataset.sample(7);
  EXPECT_THAT(sample.tokens, ElementsAre(3000, 3001, 0, 0));
  EXPECT_THAT(sample.labels, ElementsAre(3001, 0, 0, 0));
  EXPECT_THAT(sample.loss_mask, ElementsAre(1, 0, 0, 0));
}

TEST(MakeGPTSample, MasksEndsOfDocumentsWhereAsked) {
  GPTSampleOptions options{.sequence_length = 4, .eod_mask_loss = true, .eod_id = 9};
  const GPTSample sample = make_gpt_sample({5, 9, 6, 7, 9}, options);
  EXPECT_THAT(sample.tokens, ElementsAre(5, 9, 6, 7));
  EXPECT_THAT(sample.labels, ElementsAre(9, 6, 7, 9));
  EXPECT_THAT(sample.loss_mask, ElementsAre(1, 0, 1, 1));
  options.eod_mask_loss = false;
  EXPECT_THAT(make_gpt_sample({5, 9, 6, 7, 9}, options).loss_mask, ElementsAre(1, 1, 1, 1));
  EXPECT_THROW(make_gpt_sample({1, 2, 3, 4, 5, 6}, options), Error);
}

TEST(GPTDataset, NeedsAnEndOfDocumentToMaskIt) {
  const auto one = golden("gpt_dataset.json")["gpt"][0];
  EXPECT_THROW(numbered_dataset(one, {.eod_mask_loss = true}), Error);
}

TEST(Md5, AgreesWithTheRfc) {
  EXPECT_EQ(md5_hex(""), "d41d8cd98f00b204e9800998ecf8427e");
  EXPECT_EQ(md5_hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(
      md5_hex("12345678901234567890123456789012345678901234567890123456789012345678901234567890"),
      "57edf4a22be3c955ac49da2e2107b67a");
}

TEST(GPTDatasetCache, DescribesADatasetAsMegatron) {
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
  void expect_right(const GPTDatasetIndex& index) {
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

TEST_F(GPTDatasetCacheTest, WritesOnceThenLoads) {
  expect_right(get());
  for (const char* name : {"description.txt", "document_index.npy", "sample_index.npy",
                           "shuffle_index.npy", "checksum.json"}) {
    EXPECT_TRUE(std::filesystem::exists(file(name))) << name;
  }
  // What is read now comes from the files: a changed file with a fitting checksum shows that.
  const auto time = std::filesystem::last_write_time(file("sample_index.npy"));
  expect_right(get());
  EXPECT_EQ(std::filesystem::last_write_time(file("sample_index.npy")), time);
  expect_right(get(/*may_write=*/false));
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(GPTDatasetCacheTest, OnlyReadsWhereItMayNotWrite) {
  expect_right(get(/*may_write=*/false));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "cache"));
}

TEST_F(GPTDatasetCacheTest, BuildsDamagedFilesAnew) {
  get();
  for (const char* name : {"description.txt", "document_index.npy", "sample_index.npy",
                           "shuffle_index.npy", "checksum.json"}) {
    const std::string whole = slurp(file(name));
    std::string flipped = whole;
    flipped[flipped.size() - 2] ^= 1;
    for (const std::string& damaged : {flipped, whole.substr(0, whole.size() / 2), std::string()}) {
      notes_.clear();
      spill(file(name), damaged);
      expect_right(get());
      EXPECT_THAT(notes_, SizeIs(1)) << name;
      EXPECT_EQ(slurp(file(name)), whole) << name;
    }
    std::filesystem::remove(file(name));
    expect_right(get());
    EXPECT_EQ(slurp(file(name)), whole) << name;
  }
}

TEST_F(GPTDatasetCacheTest, NoticesThatTheDataChanged) {
  get();
  auto lengths = one_["lengths"].get<std::vector<int32_t>>();
  lengths[3] += 1;
  data_ = NumberedDocuments(lengths);
  expect_right(get());
  EXPECT_THAT(notes_, SizeIs(1));
}

TEST_F(GPTDatasetCacheTest, WorksWithAFolderThatCannotBeWritten) {
  spill(folder_ / "cache", "a file where the folder should be");
  expect_right(get());
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("not kept")));
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
  // A writer that pads further, as newer versions of numpy do.
  std::string padded = text.substr(0, 127) + std::string(64, ' ') + text.substr(127);
  padded[8] = '\xb6';
  spill(folder / "padded.npy", padded);
  EXPECT_EQ(read_npy(folder / "padded.npy", "<i4", 2).rows, 3);
}

}  // namespace
}  // namespace megatron
