// GGUF files as models: names, rotary scaling, rows of q and k, refusals, and the way back.
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/convert/gguf_config.h"
#include "megatron/convert/gguf_differences.h"
#include "megatron/convert/gguf_model.h"
#include "megatron/convert/gguf_tensors.h"
#include "megatron/convert/rope_factors.h"
#include "megatron/formats/gguf_writer.h"

#include "tests/convert/hf_folder.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::string golden_gguf(const std::string& name) {
  return std::string(TEST_DATA_DIR) + "/gguf/" + name + "/model.gguf";
}

// A copy of a golden file as F32 with changes.
struct Change {
  std::function<void(std::map<std::string, GgufValue>&)> metadata = [](auto&) {};
  std::function<void(std::map<std::string, at::Tensor>&)> tensors = [](auto&) {};
};

std::string changed_file(const TemporaryFolder& folder, const std::string& name,
                         const Change& change) {
  const GgufFile file = GgufFile::open(golden_gguf(name));
  std::map<std::string, GgufValue> entries(file.metadata().entries().begin(),
                                           file.metadata().entries().end());
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& tensor : file.names()) tensors[tensor] = file.tensor(tensor);
  change.metadata(entries);
  change.tensors(tensors);
  GgufMetadata metadata;
  for (const auto& [key, value] : entries) metadata.add(key, value);
  std::vector<GgufTensorInfo> infos;
  for (const auto& [tensor, values] : tensors)
    infos.push_back({tensor, GgmlType::F32, values.sizes().vec()});
  const std::string path = folder / "changed.gguf";
  GgufWriter writer(path, metadata, infos);
  for (const auto& [tensor, values] : tensors) writer.write(tensor, values);
  writer.commit();
  return path;
}

auto open_with(const TemporaryFolder& folder, const std::string& name, const Change& change) {
  return [path = changed_file(folder, name, change)] { open_gguf_model(path); };
}

class GoldenGguf : public testing::TestWithParam<const char*> {};

TEST_P(GoldenGguf, RegionsAreThoseOfTheWholeTensor) {
  SourceModel source = open_gguf_model(golden_gguf(GetParam()));
  for (const MappedTensor& tensor : source.map.tensors) {
    const Rectangle whole = whole_rectangle(tensor.shape);
    const at::Tensor values = source.tensors->read(tensor.name, whole).clone();
    Rectangle part = whole;
    part.offset[0] = tensor.shape[0] / 2 - 3;
    part.shape[0] = 5;
    if (tensor.shape.size() > 1) {
      part.offset[1] = 7;
      part.shape[1] = tensor.shape[1] - 9;
    }
    EXPECT_TRUE(
        at::equal(source.tensors->read(tensor.name, part), narrow_to(values, whole.offset, part)))
        << tensor.name;
  }
}

// GGUF to a checkpoint to GGUF in fp32, and through a Hugging Face folder: the same values.
TEST_P(GoldenGguf, ValuesComeBackBitForBit) {
  TemporaryFolder scratch;
  SourceModel source = open_gguf_model(golden_gguf(GetParam()), at::kFloat);
  import_checkpoint(source, scratch.path() / "checkpoint");
  export_gguf(scratch.path() / "checkpoint", scratch.path() / "copy.gguf", GgmlType::F32);
  SourceModel copy = open_gguf_model(scratch / "copy.gguf");
  EXPECT_NO_THROW(check_equal_tensors(*source.tensors, *copy.tensors, {}));
  export_checkpoint(scratch.path() / "checkpoint", scratch.path() / "folder");
  SourceModel folder = open_source_model(scratch.path() / "folder");
  EXPECT_NO_THROW(check_equal_tensors(*source.tensors, *folder.tensors, {}));
  EXPECT_EQ(copy.record.config, source.record.config);
  EXPECT_EQ(copy.record.files, source.record.files);
  // The rows of q and k are in the file's order again.
  const GgufFile before = GgufFile::open(golden_gguf(GetParam()));
  const GgufFile after = GgufFile::open(scratch / "copy.gguf");
  for (const std::string& name : before.names()) {
    if (name == "rope_freqs.weight") {
      EXPECT_TRUE(at::allclose(before.tensor(name), after.tensor(name), 1e-5, 0));
    } else {
      EXPECT_TRUE(at::equal(before.tensor(name), after.tensor(name))) << name;
    }
  }
}

TEST_P(GoldenGguf, QuantizedExportIsClose) {
  TemporaryFolder scratch;
  SourceModel source = open_gguf_model(golden_gguf(GetParam()), at::kFloat);
  import_checkpoint(source, scratch.path() / "checkpoint");
  for (const auto& [type, tolerance] :
       {std::pair(GgmlType::Q8_0, 5e-3), std::pair(GgmlType::F16, 1e-3),
        std::pair(GgmlType::BF16, 5e-3)}) {
    const std::string path = scratch / (ggml_type_name(type) + ".gguf");
    export_gguf(scratch.path() / "checkpoint", path, type);
    const GgufFile file = GgufFile::open(path);
    EXPECT_EQ(file.entry("token_embd.weight").type, type);
    EXPECT_EQ(file.entry("output_norm.weight").type, GgmlType::F32);
    const at::Tensor ours = file.tensor("token_embd.weight");
    const at::Tensor theirs = GgufFile::open(golden_gguf(GetParam())).tensor("token_embd.weight");
    EXPECT_LT((ours - theirs).abs().max().item<double>(),
              tolerance * theirs.abs().max().item<double>());
    EXPECT_NO_THROW(open_gguf_model(path));
  }
  EXPECT_THAT([&] { export_gguf(scratch.path() / "checkpoint", scratch.path() / "F16.gguf", {}); },
              ThrowsMessage<Error>(HasSubstr("exists")));
}

INSTANTIATE_TEST_SUITE_P(Convert, GoldenGguf,
                         testing::Values("llama_f16", "llama3_q4_0", "qwen2_q8_0", "qwen3_q4_k_m"));

TEST(GgufModel, ConfigurationIsThatOfTransformers) {
  const nlohmann::json config = open_gguf_model(golden_gguf("llama3_q4_0")).record.config;
  EXPECT_EQ(config["model_type"], "llama");
  EXPECT_EQ(config["rms_norm_eps"], 1e-5);
  EXPECT_EQ(config["rope_theta"], 500000.0);
  EXPECT_EQ(config["rope_scaling"]["rope_type"], "llama3");
  EXPECT_EQ(config["rope_scaling"]["factor"], 8.0);
  EXPECT_EQ(config["rope_scaling"]["original_max_position_embeddings"], 32);
  EXPECT_EQ(config["tie_word_embeddings"], true);
  EXPECT_EQ(config["head_dim"], 16);
  EXPECT_EQ(open_gguf_model(golden_gguf("llama_f16")).record.dtype, at::kHalf);
  EXPECT_EQ(open_gguf_model(golden_gguf("llama_f16"), at::kBFloat16).record.dtype, at::kBFloat16);
}

// Files of Gemma by the package gguf, through a Hugging Face folder: what we write has the same tensors
// and says the same of the model, key for key.
TEST(GgufModel, GemmaFilesAreThoseOfTheReferenceConverter) {
  for (const auto& [name, type] :
       {std::pair("gemma2_f16", GgmlType::F16), std::pair("gemma3_f32", GgmlType::F32)}) {
    SCOPED_TRACE(name);
    TemporaryFolder scratch;
    SourceModel source = open_gguf_model(golden_gguf(name));
    import_checkpoint(source, scratch.path() / "first");
    export_checkpoint(scratch.path() / "first", scratch.path() / "folder");
    SourceModel folder = open_source_model(scratch.path() / "folder");
    import_checkpoint(folder, scratch.path() / "second");
    export_gguf(scratch.path() / "second", scratch / "copy.gguf", type);
    const GgufFile before = GgufFile::open(golden_gguf(name)),
                   after = GgufFile::open(scratch / "copy.gguf");
    EXPECT_EQ(before.names().size(), after.names().size());
    for (const std::string& tensor : before.names()) {
      EXPECT_EQ(before.entry(tensor).type, after.entry(tensor).type) << tensor;
      EXPECT_TRUE(at::allclose(before.tensor(tensor), after.tensor(tensor), 0, 1e-7)) << tensor;
    }
    for (const auto& [key, value] : before.metadata().entries())
      EXPECT_TRUE(after.metadata().find(key) != nullptr && *after.metadata().find(key) == value)
          << key;
  }
}

TEST(GgufModel, NamesGoBothWays) {
  const GgufArchitecture& llama = gguf_architecture("llama", "file");
  EXPECT_EQ(hf_tensor_name(llama, "blk.12.attn_q.weight"),
            "model.layers.12.self_attn.q_proj.weight");
  EXPECT_EQ(gguf_tensor_name(llama, "model.layers.3.post_attention_layernorm.weight"),
            "blk.3.ffn_norm.weight");
  EXPECT_EQ(hf_tensor_name(llama, "output.weight"), "lm_head.weight");
  for (const char* name : {"blk.x.attn_q.weight", "blk..attn_q.weight", "blk.0.attn_q.scales",
                           "blk.0.ffn_gate_inp.weight", "weight", ""})
    EXPECT_EQ(hf_tensor_name(llama, name), std::nullopt) << name;
  const GgufArchitecture& gemma = gguf_architecture("gemma3", "file");
  EXPECT_EQ(gguf_tensor_name(gemma, "model.layers.0.pre_feedforward_layernorm.weight"),
            "blk.0.ffn_norm.weight");
  EXPECT_EQ(gguf_tensor_name(gemma, "model.layers.0.post_attention_layernorm.weight"),
            "blk.0.post_attention_norm.weight");
}

TEST(GgufModel, WhatItCannotBeIsRefusedByName) {
  TemporaryFolder folder;
  const auto with = [&](const std::string& name, const char* key, GgufValue value) {
    return open_with(folder, name, {.metadata = [=](auto& entries) { entries[key] = value; }});
  };
  EXPECT_THAT(with("llama_f16", "general.architecture", std::string("mamba")),
              ThrowsMessage<Error>(HasSubstr("'mamba'")));
  EXPECT_THAT(with("llama_f16", "llama.expert_count", uint32_t{8}),
              ThrowsMessage<Error>(HasSubstr("experts are not supported yet")));
  EXPECT_THAT(with("llama_f16", "llama.attention.clamp_kqv", 8.0f),
              ThrowsMessage<Error>(HasSubstr("'llama.attention.clamp_kqv'")));
  EXPECT_THAT(with("llama_f16", "llama.rope.dimension_count", uint32_t{8}),
              ThrowsMessage<Error>(HasSubstr("partial rotary")));
  EXPECT_THAT(with("llama_f16", "llama.rope.scaling.type", std::string("longrope")),
              ThrowsMessage<Error>(HasSubstr("'longrope'")));
  EXPECT_THAT(with("llama_f16", "llama.attention.value_length", uint32_t{8}),
              ThrowsMessage<Error>(HasSubstr("value_length")));
  EXPECT_THAT(
      with("llama_f16", "llama.attention.head_count_kv", GgufArray{std::vector<uint32_t>{2, 1}}),
      ThrowsMessage<Error>(HasSubstr("equal for all layers")));
  EXPECT_THAT(with("llama_f16", "llama.vocab_size", uint32_t{511}),
              ThrowsMessage<Error>(HasSubstr("vocab_size")));
  EXPECT_THAT(with("llama_f16", "llama.attention.head_count", uint32_t{0}),
              ThrowsMessage<Error>(HasSubstr("head_count")));
  EXPECT_THAT(with("llama_f16", "llama.block_count", uint32_t{3}),
              ThrowsMessage<Error>(HasSubstr("it lacks")));
  EXPECT_NO_THROW(with("llama_f16", "llama.expert_count", uint32_t{0})());
}

TEST(GgufModel, TensorsMustBeThoseOfTheArchitecture) {
  TemporaryFolder folder;
  const auto with = [&](const std::function<void(std::map<std::string, at::Tensor>&)>& change) {
    return open_with(folder, "llama_f16", {.tensors = change});
  };
  EXPECT_THAT(with([](auto& tensors) { tensors["blk.0.mystery.weight"] = at::zeros({2}); }),
              ThrowsMessage<Error>(HasSubstr("blk.0.mystery.weight")));
  EXPECT_THAT(with([](auto& tensors) { tensors.erase("blk.1.ffn_up.weight"); }),
              ThrowsMessage<Error>(HasSubstr("model.layers.1.mlp.up_proj.weight")));
  EXPECT_THAT(with([](auto& tensors) {
                tensors["blk.1.attn_q.weight"] = at::zeros({12, 64});
              }),
              ThrowsMessage<Error>(HasSubstr("attn_q")));
  EXPECT_THAT(with([](auto& tensors) { tensors.erase("token_embd.weight"); }),
              ThrowsMessage<Error>(HasSubstr("token_embd.weight")));
  EXPECT_THAT(with([](auto& tensors) { tensors["rope_freqs.weight"] = at::full({8}, -1.0); }),
              ThrowsMessage<Error>(HasSubstr("positive values")));
  EXPECT_THAT(with([](auto& tensors) { tensors["rope_freqs.weight"] = at::ones({7}); }),
              ThrowsMessage<Error>(HasSubstr("8 values")));
}

TEST(GgufModel, RotaryScalings) {
  TemporaryFolder folder;
  const auto rope_of = [&](const Change& change) {
    return open_gguf_model(changed_file(folder, "llama_f16", change)).record.config["rope_scaling"];
  };
  const auto typed = [&](const std::string& type) {
    return rope_of({.metadata = [=](auto& entries) {
      entries["llama.rope.scaling.type"] = type;
      entries["llama.rope.scaling.factor"] = 4.0f;
      entries["llama.rope.scaling.original_context_length"] = uint32_t{32};
    }});
  };
  EXPECT_EQ(typed("linear"), nlohmann::json({{"rope_type", "linear"}, {"factor", 4.0}}));
  EXPECT_EQ(typed("yarn")["original_max_position_embeddings"], 32);
  EXPECT_TRUE(rope_of({.tensors = [](auto& tensors) {
                tensors["rope_freqs.weight"] = at::ones({8});
              }}).is_null());
  // Divisors that Llama 3's scaling does not give are kept as they are.
  const nlohmann::json free = rope_of({.tensors = [](auto& tensors) {
    tensors["rope_freqs.weight"] = at::tensor({1.0f, 3.0f, 2.0f, 7.0f, 1.0f, 5.0f, 1.0f, 2.0f});
  }});
  EXPECT_EQ(free["rope_type"], "longrope");
  EXPECT_EQ(free["long_factor"][3], 7.0);
  EXPECT_EQ(free["attention_factor"], 1.0);
}

// A checkpoint of a golden model with another configuration, as a GGUF file.
auto export_of(const TemporaryFolder& folder, const std::string& model,
               const std::function<void(nlohmann::json& config)>& change) {
  const fs::path source = folder.path() / "changed", checkpoint = folder.path() / "changed-ckpt";
  for (const fs::path& path : {source, checkpoint}) fs::remove_all(path);
  copy_model(model, source, change);
  SourceModel opened = open_source_model(source);
  import_checkpoint(opened, checkpoint);
  return [=, file = folder.path() / "changed.gguf"] {
    fs::remove(file);
    export_gguf(checkpoint, file, GgmlType::F32);
  };
}

TEST(GgufModel, WhatAFileCannotExpressIsRefusedByName) {
  TemporaryFolder folder;
  const auto with_rope = [&](nlohmann::json rope) {
    return export_of(folder, "llama3_rope", [=](nlohmann::json& config) {
      config.erase("rope_parameters");
      config["rope_scaling"] = rope;
    });
  };
  // No scaling of Llama 3 gives these.
  const std::vector<double> uneven = {1, 3, 2, 7, 1, 5, 1, 2}, ones(8, 1.0);
  const auto longrope = [&](std::vector<double> short_factor, std::vector<double> long_factor,
                            double scale) {
    return nlohmann::json{{"rope_type", "longrope"},
                          {"short_factor", short_factor},
                          {"long_factor", long_factor},
                          {"original_max_position_embeddings", 32},
                          {"attention_factor", scale}};
  };
  EXPECT_THAT(with_rope({{"rope_type", "dynamic"}, {"factor", 2.0}}),
              ThrowsMessage<Error>(HasSubstr("rope_dynamic_scaling_factor")));
  EXPECT_THAT(with_rope(longrope(ones, uneven, 1)), ThrowsMessage<Error>(HasSubstr("longrope")));
  EXPECT_THAT(with_rope(longrope(uneven, uneven, 1.5)),
              ThrowsMessage<Error>(HasSubstr("longrope")));
  EXPECT_THAT(export_of(folder, "llama3_rope", [](auto& config) { config["hidden_act"] = "gelu"; }),
              ThrowsMessage<Error>(HasSubstr("gelu")));
  EXPECT_FALSE(fs::exists(folder.path() / "changed.gguf"));
  // Equal divisors for every length are what rope_freqs.weight holds.
  EXPECT_NO_THROW(with_rope(longrope(uneven, uneven, 1))());
  const auto config = read_gguf_config(folder.path() / "changed.gguf");
  EXPECT_EQ(config.longrope_long_factor, uneven);
  EXPECT_NO_THROW(with_rope({{"rope_type", "linear"}, {"factor", 4.0}})());
  EXPECT_EQ(read_gguf_config(folder.path() / "changed.gguf").seq_len_interpolation_factor, 4.0);
}

// Readers of a file without soft caps assume those of the published models.
TEST(GgufDifferences, SoftCapsAndPartOfAHead) {
  const GPTModelConfig model =
      read_hf_config(hf_family("llama"),
                     read_json(fs::path(golden_hf("llama3_rope")) / "config.json"), "config.json");
  EXPECT_EQ(gguf_differences(model, model), "");
  GPTModelConfig file = model;
  file.transformer.layernorm_epsilon = static_cast<float>(model.transformer.layernorm_epsilon);
  EXPECT_EQ(gguf_differences(model, file), "");
  file.transformer.attn_logit_softcapping = 50;
  EXPECT_THAT(gguf_differences(model, file), HasSubstr("attn_logit_softcapping"));
  file = model;
  file.rotary_percent = 0.5;
  EXPECT_THAT(gguf_differences(model, file), HasSubstr("rotary_percent 1"));
  file = model;
  file.rope_scaling_factor *= 1.01;
  EXPECT_THAT(gguf_differences(model, file), HasSubstr("rope_scaling_factor"));
}

TEST(RopeFactors, FitsGiveTheSameDivisors) {
  const Llama3Scaling cases[] = {{8, 1, 4, 8192}, {32, 1, 4, 8192}, {8, 1, 4, 32},
                                 {4, 1, 4, 4096}, {8, 1, 8, 8192},  {16, 2, 5, 10000}};
  for (const Llama3Scaling& scaling : cases) {
    for (const double theta : {1e4, 5e5}) {
      for (const int64_t head_dim : {16, 64, 128}) {
        const auto factors = rope_factors(scaling, theta, head_dim);
        const auto fitted = fit_llama3_scaling(factors, theta);
        ASSERT_TRUE(fitted.has_value()) << scaling.factor << " " << scaling.original_length;
        const auto again = rope_factors(*fitted, theta, head_dim);
        for (size_t i = 0; i < factors.size(); ++i)
          EXPECT_NEAR(again[i] / factors[i], 1, 3e-5) << theta << " " << head_dim;
      }
    }
  }
  const auto llama = fit_llama3_scaling(rope_factors({8, 1, 4, 8192}, 5e5, 128), 5e5);
  EXPECT_EQ(llama->original_length, 8192);
  EXPECT_EQ(llama->high_freq_factor, 4);
  EXPECT_EQ(fit_llama3_scaling({1, 1, 1}, 1e4), std::nullopt);
  EXPECT_EQ(fit_llama3_scaling({1, 5, 1, 5}, 1e4), std::nullopt);
}

TEST(QueryRows, HalvesOfAHeadAreInterleaved) {
  const at::Tensor rows = at::arange(16).view({8, 2});
  const at::Tensor interleaved = interleave_halves(rows, 2);
  EXPECT_TRUE(at::equal(interleaved.select(1, 0), at::tensor({0, 4, 2, 6, 8, 12, 10, 14})));
  EXPECT_TRUE(at::equal(split_halves(interleaved, 2), rows));
}

}  // namespace
}  // namespace megatron
