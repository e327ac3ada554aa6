#include "megatron/checkpoint/checkpoint_index.h"

#include <gmock/gmock.h>

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

CheckpointIndex example_index() {
  CheckpointIndex index;
  index.iteration = 12;
  index.common = {{"consumed_samples", 4096}, {"lr", 0.1}, {"path", "a\xff z"}};
  index.files["shard-00000-of-00001.safetensors"] = {100, 0};
  index.tensors["w"] = {at::kBFloat16,
                        {4, 2},
                        {{"shard-00000-of-00001.safetensors", "w@0,0", {{0, 0}, {2, 2}}, "aa"},
                         {"shard-00000-of-00001.safetensors", "w@2,0", {{2, 0}, {2, 2}}, "bb"}}};
  return index;
}

CheckpointIndex parse_index_text(const std::string& text) {
  return index_from_text(text, "index.json");
}

TEST(CheckpointIndexTest, RoundTripKeepsEverything) {
  const auto copy = parse_index_text(index_to_text(example_index()));
  EXPECT_EQ(copy.iteration, 12);
  EXPECT_EQ(copy.common["lr"], 0.1);
  EXPECT_EQ(copy.files.at("shard-00000-of-00001.safetensors").bytes, 100);
  EXPECT_EQ(tensors_to_json(copy.tensors), tensors_to_json(example_index().tensors));
}

TEST(CheckpointIndexTest, DetectsEveryFlippedBit) {
  const std::string text = index_to_text(example_index());
  for (size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    if (nlohmann::json::parse(damaged, nullptr, false) == nlohmann::json::parse(text)) continue;
    error_of([&] { parse_index_text(damaged); });
  }
}

TEST(CheckpointIndexTest, DetectsEveryTruncation) {
  const std::string text = index_to_text(example_index());
  for (size_t length = 0; length + 1 < text.size(); ++length) {
    error_of([&] { parse_index_text(text.substr(0, length)); });
  }
}

TEST(CheckpointIndexTest, RefusesChunksThatDoNotTile) {
  auto index = example_index();
  index.tensors["w"].chunks.pop_back();
  EXPECT_THAT(error_of([&] { parse_index_text(index_to_text(index)); }),
              HasSubstr("'w' to cover all 8 elements"));
}

TEST(CheckpointIndexTest, RefusesShardsOutsideTheDirectory) {
  auto index = example_index();
  index.files["../secret"] = {1, 0};
  EXPECT_THAT(error_of([&] { parse_index_text(index_to_text(index)); }), HasSubstr("'../secret'"));
  index = example_index();
  index.tensors["w"].chunks[0].file = "unknown";
  EXPECT_THAT(error_of([&] { parse_index_text(index_to_text(index)); }), HasSubstr("'unknown'"));
}

}  // namespace
}  // namespace megatron
