// Folders to checkpoints and back, in one process.
#include "megatron/convert/checkpoint_conversion.h"

#include <algorithm>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/convert/hf_folder_writer.h"
#include "megatron/convert/hf_tensors.h"
#include "megatron/convert/import_weights.h"
#include "megatron/parallel/process_group_collection.h"

#include "tests/convert/hf_folder.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

// Imports and exports; returns the folder that was written.
fs::path round_trip(const fs::path& folder, const TemporaryFolder& scratch) {
  SourceModel source = open_source_model(folder);
  import_checkpoint(source, scratch.path() / "checkpoint");
  export_checkpoint(scratch.path() / "checkpoint", scratch.path() / "out");
  return scratch.path() / "out";
}

void expect_equal(const fs::path& expected, const fs::path& actual) {
  HfTensors left = HfTensors::open(expected), right = HfTensors::open(actual);
  EXPECT_NO_THROW(check_equal_tensors(left, right, {}));
}

class RoundTrip : public testing::TestWithParam<std::string> {};

TEST_P(RoundTrip, IsEqualBitForBitWithoutTheOriginal) {
  TemporaryFolder scratch;
  const fs::path copy = scratch.path() / "in";
  fs::copy(golden_hf(GetParam()), copy);
  const auto out = round_trip(copy, scratch);
  expect_equal(golden_hf(GetParam()), out);
  EXPECT_EQ(read_json(out / "config.json"), read_json(golden_hf(GetParam()) / "config.json"));
  EXPECT_EQ(read_json(out / "generation_config.json"),
            read_json(golden_hf(GetParam()) / "generation_config.json"));
  EXPECT_EQ(fs::exists(out / "tokenizer.json"), fs::exists(copy / "tokenizer.json"));
  EXPECT_FALSE(fs::exists(out / "model.safetensors.index.json"));
}

INSTANTIATE_TEST_SUITE_P(Convert, RoundTrip, testing::ValuesIn(golden_hf_names()),
                         [](const auto& info) { return info.param; });

TEST(CheckpointConversion, TypesOfTheSourceAreKept) {
  TemporaryFolder scratch;
  copy_model("qwen2", scratch.path() / "in", {}, [](std::vector<NamedTensor>& tensors) {
    for (NamedTensor& tensor : tensors) {
      const bool norm = tensor.name.find("norm") != std::string::npos;
      tensor.data = tensor.data.to(norm ? at::kFloat : at::kBFloat16);
    }
  });
  const fs::path out = round_trip(scratch.path() / "in", scratch);
  expect_equal(scratch.path() / "in", out);
  const SafetensorsFile written = SafetensorsFile::open(out / "model.safetensors");
  EXPECT_EQ(written.entry("model.norm.weight").dtype, at::kFloat);
  EXPECT_EQ(written.entry("model.embed_tokens.weight").dtype, at::kBFloat16);
}

TEST(CheckpointConversion, RepeatedTiedWeightIsWrittenAgain) {
  TemporaryFolder scratch;
  copy_model("qwen2", scratch.path() / "in", {}, [](std::vector<NamedTensor>& tensors) {
    const auto embedding =
        std::ranges::find(tensors, "model.embed_tokens.weight", &NamedTensor::name);
    tensors.push_back({"lm_head.weight", embedding->data});
  });
  expect_equal(scratch.path() / "in", round_trip(scratch.path() / "in", scratch));
}

TEST(CheckpointConversion, FilesOfTheBareModelKeepTheirNames) {
  TemporaryFolder scratch;
  copy_model(
      "gpt2", scratch.path() / "in",
      [](nlohmann::json& config) { config["architectures"] = {"GPT2LMHeadModel"}; },
      [](std::vector<NamedTensor>& tensors) {
        for (NamedTensor& tensor : tensors)
          tensor.name.erase(0, std::string("transformer.").size());
      });
  expect_equal(scratch.path() / "in", round_trip(scratch.path() / "in", scratch));
}

TEST(CheckpointConversion, BuffersAreLeftOut) {
  TemporaryFolder scratch;
  copy_model("gpt2", scratch.path() / "in", {}, [](std::vector<NamedTensor>& tensors) {
    tensors.push_back({"transformer.h.0.attn.bias", at::ones({1, 1, 8, 8}, at::kByte)});
  });
  SourceModel source = open_source_model(scratch.path() / "in");
  ASSERT_EQ(source.notes.size(), 1u);
  EXPECT_THAT(source.notes[0], HasSubstr("transformer.h.0.attn.bias"));
}

TEST(CheckpointConversion, LargeModelsAreWrittenInShards) {
  TemporaryFolder scratch;
  SourceModel source = open_source_model(golden_hf("gemma3"));
  import_checkpoint(source, scratch.path() / "checkpoint");
  auto checkpoint = CheckpointReader::open(scratch.path() / "checkpoint");
  const auto single = ProcessGroupCollection::single_rank();
  write_hf_folder(scratch.path() / "out", source.record, source.map,
                  values_of_checkpoint(checkpoint), *single.world, {.max_shard_bytes = 100'000});
  const nlohmann::json index = read_json(scratch.path() / "out/model.safetensors.index.json");
  std::set<std::string> files;
  for (const auto& [name, file] : index["weight_map"].items()) {
    files.insert(file);
    EXPECT_TRUE(
        SafetensorsFile::open(scratch.path() / "out" / file.get<std::string>()).contains(name));
  }
  EXPECT_GT(files.size(), 3u);
  EXPECT_EQ(index["weight_map"].size(), source.map.tensors.size());
  expect_equal(golden_hf("gemma3"), scratch.path() / "out");
}

TEST(CheckpointConversion, ExistingFolderIsNotTouched) {
  TemporaryFolder scratch;
  SourceModel source = open_source_model(golden_hf("gemma3"));
  import_checkpoint(source, scratch.path() / "checkpoint");
  fs::create_directories(scratch.path() / "out");
  write_json(scratch.path() / "out/mine.json", {{"keep", true}});
  EXPECT_THAT([&] { export_checkpoint(scratch.path() / "checkpoint", scratch.path() / "out"); },
              ThrowsMessage<Error>(HasSubstr("a new or empty folder")));
  EXPECT_TRUE(fs::exists(scratch.path() / "out/mine.json"));
  const auto entries = std::distance(fs::directory_iterator(scratch.path()), {});
  EXPECT_EQ(entries, 2);  // checkpoint and out: no temporary folder
}

TEST(CheckpointConversion, TensorsAreStreamedInOrder) {
  SourceModel source = open_source_model(golden_hf("mistral_sliding"));
  const ShardedStateDict state = imported_state(*source.tensors, source.map);
  ShardedStateDict values = state;
  for (ShardedTensor& tensor : values) tensor.data = tensor.read();
  std::vector<std::string> names;
  const auto single = ProcessGroupCollection::single_rank();
  stream_tensors(
      source.map, values_of_state(values), [](const auto&) { return at::kFloat; }, *single.world,
      [&](const std::string& name, const at::Tensor& tensor) {
        names.push_back(name);
        EXPECT_TRUE(
            at::equal(tensor, source.tensors->read(name, whole_rectangle(tensor.sizes().vec()))))
            << name;
      });
  EXPECT_EQ(names.size(), source.map.tensors.size());
  EXPECT_EQ(names.front(), "model.embed_tokens.weight");
  EXPECT_EQ(names.back(), "lm_head.weight");
}

}  // namespace
}  // namespace megatron
