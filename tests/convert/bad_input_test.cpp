// Folders that are refused: what is missing, wrong or dangerous is named, and nothing is written.
#include <algorithm>
#include <fstream>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/convert/checkpoint_conversion.h"
#include "megatron/convert/hf_tensors.h"

#include "tests/convert/hf_folder.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

class BadFolder : public testing::Test {
 protected:
  fs::path folder() const { return scratch_.path() / "in"; }
  void expect_refused(const testing::Matcher<std::string>& message) const {
    EXPECT_THAT([&] { open_source_model(folder()); }, ThrowsMessage<Error>(message));
  }
  // Two shards and an index.
  json write_shards(const std::function<void(json& index)>& change = {}) const {
    copy_model("qwen2", folder());
    auto tensors = read_tensors(folder() / "model.safetensors");
    fs::remove(folder() / "model.safetensors");
    const size_t half = tensors.size() / 2;
    const std::vector<NamedTensor> first(tensors.begin(), tensors.begin() + half),
        second(tensors.begin() + half, tensors.end());
    write_safetensors(folder() / "a.safetensors", first);
    write_safetensors(folder() / "b.safetensors", second);
    json index = {{"weight_map", json::object()}};
    for (const auto& tensor : first) index["weight_map"][tensor.name] = "a.safetensors";
    for (const auto& tensor : second) index["weight_map"][tensor.name] = "b.safetensors";
    if (change) change(index);
    write_json(folder() / "model.safetensors.index.json", index);
    return index;
  }

  TemporaryFolder scratch_;
};

TEST_F(BadFolder, MissingAndExtraTensorsAreNamed) {
  copy_model("qwen2", folder(), {}, [](std::vector<NamedTensor>& tensors) {
    std::erase_if(tensors, [](const NamedTensor& tensor) {
      return tensor.name == "model.layers.1.mlp.up_proj.weight";
    });
    tensors.push_back({"model.layers.0.self_attn.sinks", at::zeros({4})});
  });
  expect_refused(AllOf(HasSubstr("model.layers.1.mlp.up_proj.weight"),
                       HasSubstr("model.layers.0.self_attn.sinks")));
}

TEST_F(BadFolder, TensorsOfALayerTooManyAreNamed) {
  copy_model("qwen2", folder(), [](json& config) {
    config["num_hidden_layers"] = 1;
    config.erase("layer_types");
  });
  expect_refused(HasSubstr("model.layers.1.input_layernorm.weight"));
}

TEST_F(BadFolder, WrongShapesAreNamed) {
  copy_model("qwen2", folder(), [](json& config) { config["intermediate_size"] = 192; });
  expect_refused(AllOf(HasSubstr("model.layers.0.mlp.gate_proj.weight"), HasSubstr("[128, 64]"),
                       HasSubstr("[192, 64]")));
}

TEST_F(BadFolder, ConfigurationThatContradictsTheWeights) {
  copy_model("qwen2", folder(), [](json& config) { config["tie_word_embeddings"] = false; });
  expect_refused(HasSubstr("lm_head.weight"));
}

TEST_F(BadFolder, TiedHeadWithOtherValues) {
  copy_model("qwen2", folder(), {}, [](std::vector<NamedTensor>& tensors) {
    const auto embedding =
        std::ranges::find(tensors, "model.embed_tokens.weight", &NamedTensor::name);
    tensors.push_back({"lm_head.weight", embedding->data + 1});
  });
  expect_refused(HasSubstr("differ from the tied embedding"));
}

TEST_F(BadFolder, IntegerWeights) {
  copy_model("qwen2", folder(), {}, [](std::vector<NamedTensor>& tensors) {
    tensors.front().data = tensors.front().data.to(at::kInt);
  });
  expect_refused(HasSubstr("F64, F32, F16 or BF16"));
}

TEST_F(BadFolder, ShardsWork) {
  write_shards();
  EXPECT_NO_THROW(open_source_model(folder()));
}

TEST_F(BadFolder, IndexThatListsTensorsThatDoNotExist) {
  write_shards([](json& index) { index["weight_map"]["model.phantom.weight"] = "b.safetensors"; });
  expect_refused(HasSubstr("model.phantom.weight"));
}

TEST_F(BadFolder, IndexThatLacksATensor) {
  write_shards([](json& index) { index["weight_map"].erase("model.norm.weight"); });
  expect_refused(HasSubstr("model.norm.weight"));
}

TEST_F(BadFolder, IndexThatNamesAMissingFile) {
  write_shards([](json& index) { index["weight_map"]["model.norm.weight"] = "c.safetensors"; });
  expect_refused(HasSubstr("c.safetensors"));
}

TEST_F(BadFolder, IndexWithAPathThatEscapes) {
  for (const char* path : {"../other/b.safetensors", "/etc/passwd", "x/../../b.safetensors", ""}) {
    fs::remove_all(folder());
    write_shards([&](json& index) { index["weight_map"]["model.norm.weight"] = path; });
    expect_refused(HasSubstr("files of its folder"));
  }
}

TEST_F(BadFolder, IndexThatIsNoIndex) {
  write_shards([](json& index) { index = json::array({1, 2}); });
  expect_refused(HasSubstr("'weight_map'"));
}

TEST_F(BadFolder, FolderWithoutWeights) {
  copy_model("qwen2", folder());
  fs::remove(folder() / "model.safetensors");
  expect_refused(HasSubstr("model.safetensors"));
  std::ofstream(folder() / "pytorch_model.bin") << "pickle";
  expect_refused(HasSubstr("pytorch_model.bin"));
}

TEST_F(BadFolder, LyingHeaderIsRefused) {
  copy_model("qwen2", folder());
  const fs::path file = folder() / "model.safetensors";
  const auto size = fs::file_size(file);
  fs::resize_file(file, size - 64);  // truncated
  expect_refused(HasSubstr("model.safetensors"));
  fs::resize_file(file, size + 64);  // too long
  expect_refused(HasSubstr("model.safetensors"));
}

TEST_F(BadFolder, ConfigurationThatIsNoJson) {
  copy_model("qwen2", folder());
  std::ofstream(folder() / "config.json") << "{\"architectures\": [";
  expect_refused(HasSubstr("config.json"));
  std::ofstream(folder() / "config.json") << "[]";
  expect_refused(HasSubstr("config.json"));
}

TEST_F(BadFolder, SizesThatCannotBe) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, json>>{{"num_attention_heads", 0},
                                                 {"hidden_size", -64},
                                                 {"num_hidden_layers", int64_t{1} << 50},
                                                 {"vocab_size", "many"}}) {
    fs::remove_all(folder());
    copy_model("qwen2", folder(), [&](json& config) {
      config[key] = value;
      config.erase("layer_types");
    });
    EXPECT_THROW(open_source_model(folder()), Error) << key;
  }
}

TEST_F(BadFolder, NothingIsHalfWritten) {
  copy_model("qwen2", folder(), [](json& config) { config["intermediate_size"] = 192; });
  EXPECT_THROW(
      {
        SourceModel source = open_source_model(folder());
        import_checkpoint(source, scratch_.path() / "checkpoint");
      },
      Error);
  EXPECT_FALSE(fs::exists(scratch_.path() / "checkpoint"));
}

}  // namespace
}  // namespace megatron
