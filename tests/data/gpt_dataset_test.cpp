// GPTDataset's indices against Megatron's, and its samples.
#include "megatron/data/gpt_dataset.h"

#include <gmock/gmock.h>
#include <set>

#include <gtest/gtest.h>

#include "tests/data/numbered_documents.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

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

TEST(GPTDatasetIndex, RefusesASplitWithoutAFullSample) {
  const NumberedDocuments data({2, 0, 1});
  GPTDatasetIndexRequest request;
  request.sequences = {0, 1, 2};
  request.sequence_length = 8;
  EXPECT_THROW(build_gpt_dataset_index(data, request), Error);
  request.num_samples = 2;  // several epochs fill samples
  EXPECT_GE(build_gpt_dataset_index(data, request).shuffle_index.size(), 2u);
  request.sequences = {};
  EXPECT_THROW(build_gpt_dataset_index(data, request), Error);
  request.sequences = {0, 3};
  EXPECT_THROW(build_gpt_dataset_index(data, request), Error);
}

// Megatron counts samples in float32, which rounds 2^25 + 1 tokens to 2^25: the last token yields
// no sample.
TEST(GPTDatasetIndex, CountsSamplesInFloat32) {
  const NumberedDocuments data({(1 << 25) + 1});
  GPTDatasetIndexRequest request;
  request.sequences = {0};
  request.sequence_length = 1024;
  request.add_extra_token = false;
  request.drop_last_partial_sequence = false;
  EXPECT_EQ(build_gpt_dataset_index(data, request).shuffle_index.size(), 32768u);
}

// float32 rounds 3 x 5592409 tokens up, which yields a fourth sample without tokens.
TEST(GPTDatasetIndex, StaysInRangeWhenFloat32RoundsUp) {
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
  // Documents in the order 2, 1, 5, ...: the sample at entry 0, offset 4 consists of the tail of
  // document 2 (tokens 4, 5, 6) and the head of document 1 (tokens 0, 1).
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

TEST(GPTDataset, CoversEveryPositionOfAnEpochOnce) {
  const auto one = golden("gpt_dataset.json")["gpt"][0];
  const GPTDataset dataset = numbered_dataset(one);
  std::multiset<int64_t> tokens;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    for (const int64_t token : dataset.sample(i).tokens) tokens.insert(token);
  }
  EXPECT_THAT(tokens, SizeIs(28));  // of 30; the last two are a partial sample and a label
  EXPECT_EQ(std::set<int64_t>(tokens.begin(), tokens.end()).size(), tokens.size());
}

TEST(GPTDataset, MasksThePaddingOfTheLastSample) {
  const auto one = golden("gpt_dataset.json")["gpt"][5];  // no extra token, partial sample kept
  const GPTDataset dataset = numbered_dataset(one);
  EXPECT_EQ(dataset.size(), 8);
  // The last sample has two tokens; the shuffle leaves it in last place.
  EXPECT_THAT(dataset.text(7), SizeIs(2));
  const GPTSample sample = dataset.sample(7);
  EXPECT_THAT(sample.tokens, ElementsAre(3000, 3001, 0, 0));
  EXPECT_THAT(sample.labels, ElementsAre(3001, 0, 0, 0));
  EXPECT_THAT(sample.loss_mask, ElementsAre(1, 0, 0, 0));
}

TEST(MakeGPTSample, MasksEndOfDocumentTokens) {
  GPTSampleOptions options{.sequence_length = 4, .eod_mask_loss = true, .eod_id = 9};
  const GPTSample sample = make_gpt_sample({5, 9, 6, 7, 9}, options);
  EXPECT_THAT(sample.tokens, ElementsAre(5, 9, 6, 7));
  EXPECT_THAT(sample.labels, ElementsAre(9, 6, 7, 9));
  EXPECT_THAT(sample.loss_mask, ElementsAre(1, 0, 1, 1));
  options.eod_mask_loss = false;
  EXPECT_THAT(make_gpt_sample({5, 9, 6, 7, 9}, options).loss_mask, ElementsAre(1, 1, 1, 1));
  EXPECT_THROW(make_gpt_sample({1, 2, 3, 4, 5, 6}, options), Error);
}

TEST(GPTDataset, RefusesToMaskWithoutAnEndOfDocumentToken) {
  const auto one = golden("gpt_dataset.json")["gpt"][0];
  EXPECT_THROW(numbered_dataset(one, {.eod_mask_loss = true}), Error);
}

}  // namespace
}  // namespace megatron
