// Blends against Megatron's indices, and the datasets that a run's options describe.
#include "megatron/data/blend.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/data/dataset_builder.h"
#include "megatron/data/indexed_dataset_builder.h"

#include "tests/data/golden.h"

namespace megatron {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Blend, AgreesWithMegatron) {
  const auto cases = golden("gpt_dataset.json")["blend"];
  ASSERT_EQ(cases.size(), 3u);
  for (const auto& one : cases) {
    const auto weights = one["weights"].get<std::vector<double>>();
    const BlendIndex index = build_blending_indices(weights, one["size"].get<int64_t>());
    EXPECT_EQ(index.dataset_index, one["dataset_index"].get<std::vector<int16_t>>());
    EXPECT_EQ(index.dataset_sample_index, one["dataset_sample_index"].get<std::vector<int64_t>>());
  }
}

TEST(Blend, AgreesWithMegatronWithoutWeights) {
  const auto cases = golden("gpt_dataset.json")["blend_exhaustive"];
  ASSERT_EQ(cases.size(), 2u);
  for (const auto& one : cases) {
    const auto sizes = one["sizes"].get<std::vector<int64_t>>();
    const BlendIndex index = build_exhaustive_blending_indices(sizes);
    EXPECT_EQ(index.dataset_index, one["dataset_index"].get<std::vector<int16_t>>());
    EXPECT_EQ(index.dataset_sample_index, one["dataset_sample_index"].get<std::vector<int64_t>>());
  }
}

TEST(DataPath, ReadsWeights) {
  EXPECT_THAT(parse_data_path({"a"}).prefixes, ElementsAre("a"));
  EXPECT_FALSE(parse_data_path({"a", "b", "c"}).weights.has_value());
  EXPECT_FALSE(parse_data_path({"a", "b"}).weights.has_value());
  const DataBlend blend = parse_data_path({"3", "a", "1", "b"});
  EXPECT_THAT(blend.prefixes, ElementsAre("a", "b"));
  EXPECT_THAT(*blend.weights, ElementsAre(0.75, 0.25));
  EXPECT_THROW(parse_data_path({}), Error);
  EXPECT_THROW(parse_data_path({"1", "a", "x", "b"}), Error);
  EXPECT_THROW(parse_data_path({"0", "a"}), Error);
  EXPECT_THROW(parse_data_path({"a", "b", "1", "c"}), Error);
}

TEST(Blend, RequestsASurplus) {
  EXPECT_THAT(blend_sample_counts(std::vector<double>{0.75, 0.25}, 1000), ElementsAre(754, 252));
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  return names;
}

class BuildDatasetsTest : public ::testing::Test {
 protected:
  // 100 documents of 20 tokens, all `token`.
  std::string write(const std::string& name, int64_t token) {
    IndexedDatasetBuilder builder(folder_ / name, TokenType::uint16);
    for (int i = 0; i < 100; ++i) builder.add_document(std::vector<int64_t>(20, token));
    builder.finalize();
    return folder_ / name;
  }

  DatasetRequest request(std::vector<std::string> data_path) {
    DatasetRequest request;
    request.data.data_path = std::move(data_path);
    request.data.split = "90,10,0";
    request.sequence_length = 8;
    request.vocab_size = 50;
    request.num_samples = {400, 30, 5};
    return request;
  }

  std::string error(const DatasetRequest& request) {
    try {
      build_datasets(request);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
};

TEST_F(BuildDatasetsTest, BuildsEachSplitAndStoresItsIndices) {
  const auto one = request({write("a", 7)});
  const Datasets datasets = build_datasets(one);
  ASSERT_NE(datasets.train(), nullptr);
  ASSERT_NE(datasets.valid(), nullptr);
  EXPECT_EQ(datasets.test(), nullptr);
  EXPECT_GE(datasets.train()->size(), 400);
  EXPECT_GE(datasets.valid()->size(), 30);
  EXPECT_THAT(datasets.train()->sample(399).tokens, Contains(7).Times(8));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "cache/GPTDataset_indices"));
  // A rank that only reads gets the same samples.
  auto other = one;
  other.writes_cache = false;
  other.note = [](const std::string& line) { ADD_FAILURE() << line; };
  EXPECT_EQ(build_datasets(other).train()->size(), datasets.train()->size());
}

TEST_F(BuildDatasetsTest, BlendsByWeight) {
  const Datasets datasets = build_datasets(request({"3", write("a", 7), "1", write("b", 9)}));
  ASSERT_EQ(datasets.train()->size(), 400);
  int64_t of_a = 0;
  for (int64_t i = 0; i < 400; ++i) of_a += datasets.train()->sample(i).tokens[0] == 7;
  EXPECT_EQ(of_a, 300);
}

TEST_F(BuildDatasetsTest, ReadsDatasetsWithoutWeightsOnce) {
  auto both = request({write("a", 7), write("b", 9)});
  both.num_samples = {std::nullopt, std::nullopt, std::nullopt};
  EXPECT_EQ(build_datasets(both).train()->size(), 2 * ((90 * 20 - 1) / 8));
  both.num_samples = {10000, std::nullopt, std::nullopt};
  EXPECT_THAT(error(both), HasSubstr("10000 samples"));
}

// A training blend ends with an error, evaluations repeat their data.
TEST_F(BuildDatasetsTest, EvaluationDataWithoutWeightsMayBeShort) {
  auto both = request({write("a", 7), write("b", 9)});
  both.num_samples = {100, 10000, std::nullopt};
  EXPECT_EQ(build_datasets(both).valid()->size(), 2 * ((10 * 20 - 1) / 8));
}

TEST_F(BuildDatasetsTest, UsesDataBySplitWhole) {
  auto by_split = request({});
  by_split.data.train_data_path = {"1", write("a", 7), "3", write("b", 9)};
  by_split.data.valid_data_path = {write("c", 11)};
  const Datasets datasets = build_datasets(by_split);
  EXPECT_EQ(datasets.test(), nullptr);
  int64_t of_a = 0;
  for (int64_t i = 0; i < 400; ++i) of_a += datasets.train()->sample(i).tokens[0] == 7;
  EXPECT_EQ(of_a, 100);
  EXPECT_THAT(datasets.valid()->sample(29).tokens, Contains(11).Times(8));
  EXPECT_EQ(datasets.training_path, "0.25 " + (folder_ / "a") + " + 0.75 " + (folder_ / "b"));
  // Megatron's description of such data has no split.
  for (const std::string& name : names_in(folder_ / "cache/GPTDataset_indices")) {
    if (!name.ends_with("description.txt")) continue;
    const auto description =
        nlohmann::json::parse(slurp(folder_ / ("cache/GPTDataset_indices/" + name)));
    EXPECT_TRUE(description["split"].is_null() && description["split_matrix"].is_null()) << name;
  }
}

// A file with the same words gives the same samples.
TEST_F(BuildDatasetsTest, ReadsTheBlendFromFiles) {
  const std::string a = write("a", 7), b = write("b", 9);
  const auto tokens = [](const Datasets& datasets) {
    std::vector<int64_t> firsts;
    for (int64_t i = 0; i < 40; ++i) firsts.push_back(datasets.train()->sample(i).tokens[0]);
    return firsts;
  };
  auto from_file = request({});
  from_file.data.data_args_path = folder_ / "blend";
  spill(folder_ / "blend", "3 " + a + "\n1\t" + b + "\n");
  EXPECT_EQ(tokens(build_datasets(from_file)), tokens(build_datasets(request({"3", a, "1", b}))));

  auto by_split = request({});
  by_split.data.per_split_data_args_path = folder_ / "splits.json";
  spill(folder_ / "splits.json",
        nlohmann::json({{"train", {"3", a, "1", b}}, {"valid", b}, {"test", nullptr}}).dump());
  auto as_flags = request({});
  as_flags.data.train_data_path = {"3", a, "1", b};
  EXPECT_EQ(tokens(build_datasets(by_split)), tokens(build_datasets(as_flags)));
  EXPECT_EQ(build_datasets(by_split).valid()->sample(0).tokens[0], 9);
  EXPECT_EQ(build_datasets(by_split).test(), nullptr);
}

TEST_F(BuildDatasetsTest, RefusesFilesThatHoldSomethingElse) {
  auto bad = request({});
  bad.data.data_args_path = folder_ / "none";
  EXPECT_THAT(error(bad), HasSubstr("Expected a readable file for --data-args-path"));
  spill(folder_ / "empty", " \n");
  bad.data.data_args_path = folder_ / "empty";
  EXPECT_THAT(error(bad), HasSubstr("is empty"));
  bad.data.data_args_path.clear();
  bad.data.per_split_data_args_path = folder_ / "splits.json";
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {"[1]", "a JSON file with the keys train, valid and test"},
           {"{\"train\": [\"a\"], \"tset\": []}", "but got \"tset\""},
           {"{\"train\": 3}", "a list or a text under \"train\""},
           {"{\"valid\": [\"a\"]}", "training data under \"train\""}}) {
    spill(folder_ / "splits.json", text);
    EXPECT_THAT(error(bad), HasSubstr(message));
  }
}

// Each dataset of a blend must have documents in each of its splits.
TEST_F(BuildDatasetsTest, RefusesABlendWithAnEmptyShare) {
  IndexedDatasetBuilder builder(folder_ / "one", TokenType::uint16);
  builder.add_document(std::vector<int64_t>(200, 5));
  builder.finalize();
  EXPECT_THAT(error(request({"1", write("a", 7), "1", folder_ / "one"})),
              HasSubstr("leaves none of " + (folder_ / "one")));
}

TEST_F(BuildDatasetsTest, ReadsTheSameTokensWithoutAMap) {
  auto mapped = request({write("a", 7)});
  auto read = mapped;
  read.data.mmap_bin_files = false;
  const Datasets left = build_datasets(mapped), right = build_datasets(read);
  for (int64_t i = 0; i < 20; ++i)
    EXPECT_EQ(left.train()->sample(i).tokens, right.train()->sample(i).tokens);
}

TEST_F(BuildDatasetsTest, StoresIndicesOfMockDataWhereAskedTo) {
  DatasetRequest mock;
  mock.data.mock_data = true;
  mock.data.data_cache_path = folder_ / "mock";
  mock.sequence_length = 16;
  mock.vocab_size = 100;
  mock.num_samples = {10, 10, 10};
  const auto first = build_datasets(mock).train()->sample(3).tokens;
  EXPECT_EQ(names_in(folder_ / "mock").size(), 15u);
  EXPECT_EQ(build_datasets(mock).train()->sample(3).tokens, first);
}

TEST_F(BuildDatasetsTest, BuildsMockData) {
  DatasetRequest mock;
  mock.data.mock_data = true;
  mock.data.split = "1,1,1";
  mock.sequence_length = 16;
  mock.vocab_size = 100;
  mock.num_samples = {10, 10, 10};
  const Datasets datasets = build_datasets(mock);
  const GPTSample sample = datasets.test()->sample(3);
  for (size_t i = 0; i < 15; ++i) {
    if (sample.tokens[i] != 99 && sample.labels[i] != 99) {
      EXPECT_EQ(sample.labels[i], (sample.tokens[i] + 1) % 100);
    }
  }
}

TEST_F(BuildDatasetsTest, RefusesDataOfAnotherVocabulary) {
  auto other = request({write("a", 7)});
  other.vocab_size = 7;
  EXPECT_THAT(error(other), HasSubstr("below the vocabulary size 7"));
}

TEST_F(BuildDatasetsTest, NamesMissingInput) {
  EXPECT_THAT(error(request({folder_ / "none"})), HasSubstr("none.idx"));
  EXPECT_THAT(error(request({})), HasSubstr("--data-path"));
  // A share without documents is no dataset; one that is shorter than a sample is refused.
  auto small = request({write("a", 7)});
  small.data.split = "1000,1,0";
  EXPECT_EQ(build_datasets(small).valid(), nullptr);
  small.sequence_length = 300;
  small.data.split = "90,1,0";
  small.num_samples = {std::nullopt, std::nullopt, std::nullopt};
  EXPECT_THAT(error(small), HasSubstr("larger share"));
}

}  // namespace
}  // namespace megatron
