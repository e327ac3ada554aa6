// Every family: its configuration in both directions, and the tiling of its tensors.
#include <gmock/gmock.h>
#include <set>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/config/options/options_json.h"
#include "megatron/convert/hf_family.h"
#include "megatron/convert/source_model.h"

#include "tests/convert/hf_folder.h"

namespace megatron {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<std::string> differences(const GPTModelConfig& left, const GPTModelConfig& right) {
  Options a, b;
  a.model = left;
  b.model = right;
  std::vector<std::string> fields;
  for (const ArchitectureDifference& difference : architecture_differences(a, b))
    fields.push_back(difference.field + " " + difference.left + " " + difference.right);
  return fields;
}

void expect_tiles(const TensorMap& map) {
  for (const MappedParameter& parameter : map.parameters) {
    std::vector<Rectangle> regions;
    for (const MapPart& part : parameter.parts) regions.push_back(part.ours);
    EXPECT_NO_THROW(check_tiling(parameter.name, parameter.shape, regions));
  }
  for (const MappedTensor& tensor : map.tensors) {
    std::vector<Rectangle> regions;
    for (const auto& [parameter, part] : tensor.parts)
      regions.push_back(map.parameters[parameter].parts[part].theirs);
    EXPECT_NO_THROW(check_tiling(tensor.name, tensor.shape, regions));
  }
}

class GoldenFolder : public testing::TestWithParam<std::string> {};

TEST_P(GoldenFolder, BothSpellingsDescribeTheSameModel) {
  const json v5 = read_json(golden_hf(GetParam()) / "config.json");
  const json v4 = read_json(golden_hf(GetParam()) / "config_v4.json");
  const HfFamily& family = find_hf_family(v5, "config.json");
  EXPECT_EQ(&find_hf_family(v4, "config_v4.json"), &family);
  EXPECT_THAT(differences(read_hf_config(family, v5, "v5"), read_hf_config(family, v4, "v4")),
              testing::IsEmpty());
}

TEST_P(GoldenFolder, WrittenConfigurationDescribesTheSameModel) {
  const json config = read_json(golden_hf(GetParam()) / "config.json");
  const HfFamily& family = find_hf_family(config, "config.json");
  const GPTModelConfig model = read_hf_config(family, config, "config.json");
  const json written = write_hf_config(family, model);
  EXPECT_THAT(differences(model, read_hf_config(family, written, "written")), testing::IsEmpty());
}

TEST_P(GoldenFolder, PartsTileParametersAndTensors) {
  SourceModel source = open_source_model(golden_hf(GetParam()));
  EXPECT_GT(source.map.tensors.size(), 10u);
  expect_tiles(source.map);
}

TEST_P(GoldenFolder, UnchangedModelKeepsItsConfiguration) {
  const json config = read_json(golden_hf(GetParam()) / "config_v4.json");
  const HfFamily& family = find_hf_family(config, "config_v4.json");
  EXPECT_EQ(updated_hf_config(family, config, read_hf_config(family, config, "v4")), config);
}

// A model of flags leaves sizes to their defaults: config.json gives them all.
TEST_P(GoldenFolder, SizesThatHaveDefaultsAreWritten) {
  const json config = read_json(golden_hf(GetParam()) / "config.json");
  const HfFamily& family = find_hf_family(config, "config.json");
  GPTModelConfig model = read_hf_config(family, config, "config.json");
  model.max_position_embeddings.reset();
  model.seq_length = 77;
  TransformerConfig& t = model.transformer;
  t.num_query_groups.reset();
  t.kv_channels.reset();
  t.ffn_hidden_size.reset();
  if (t.softmax_scale) t.softmax_scale = 0.25;
  if (model.has_longrope()) {
    const auto pairs = static_cast<size_t>(double(t.head_dim()) * model.rotary_percent) / 2;
    model.longrope_short_factor.resize(pairs, 1.0);
    model.longrope_long_factor.resize(pairs, 1.0);
  }
  const json written = write_hf_config(family, model);
  const bool is_gpt2 = family.model_type == "gpt2";
  EXPECT_EQ(written[is_gpt2 ? "n_positions" : "max_position_embeddings"], 77);
  EXPECT_EQ(written[is_gpt2 ? "n_inner" : "intermediate_size"], 4 * t.hidden_size);
  EXPECT_EQ(read_hf_config(family, written, "written").max_sequence_length(), 77);
}

// A run on longer sequences makes a model of longer sequences, whatever else it keeps.
TEST_P(GoldenFolder, AnotherLengthIsWritten) {
  for (const char* file : {"config.json", "config_v4.json"}) {
    const json config = read_json(golden_hf(GetParam()) / file);
    const HfFamily& family = find_hf_family(config, file);
    GPTModelConfig model = read_hf_config(family, config, file);
    model.max_position_embeddings = 4096;
    const json updated = updated_hf_config(family, config, model);
    EXPECT_EQ(model_differences(model, read_hf_config(family, updated, "updated")), "");
    EXPECT_EQ(read_hf_config(family, updated, "updated").max_sequence_length(), 4096);
  }
}

INSTANTIATE_TEST_SUITE_P(Convert, GoldenFolder, testing::ValuesIn(golden_hf_names()),
                         [](const auto& info) { return info.param; });

json tiny_llama() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 100},
          {"max_position_embeddings", 128},
          {"hidden_act", "silu"},
          {"rms_norm_eps", 1e-5}};
}

GPTModelConfig read_llama(const json& config) {
  return read_hf_config(hf_family("llama"), config, "config.json");
}

TEST(HfFamily, UnknownArchitectureListsThoseThatAreKnown) {
  json config = tiny_llama();
  config["architectures"] = {"SomethingForCausalLM"};
  config["model_type"] = "something";
  EXPECT_THAT([&] { find_hf_family(config, "config.json"); },
              ThrowsMessage<Error>(testing::AllOf(HasSubstr("SomethingForCausalLM"),
                                                  HasSubstr("LlamaForCausalLM"),
                                                  HasSubstr("GPT2LMHeadModel"))));
}

TEST(HfFamily, FamiliesThatCannotWorkAreRefusedWithTheReason) {
  for (const auto& [architecture, reason] :
       {std::pair{"MixtralForCausalLM", "experts"}, std::pair{"DeepseekV3ForCausalLM", "latent"},
        std::pair{"MambaForCausalLM", "state-space"},
        std::pair{"Qwen3NextForCausalLM", "delta net"},
        std::pair{"Qwen2VLForConditionalGeneration", "vision"},
        std::pair{"LlamaForSequenceClassification", "classifies"}}) {
    json config = tiny_llama();
    config["architectures"] = {architecture};
    EXPECT_THAT([&] { find_hf_family(config, "config.json"); },
                ThrowsMessage<Error>(testing::AllOf(HasSubstr(architecture), HasSubstr(reason))))
        << architecture;
  }
}

TEST(HfFamily, BareModelIsFoundByItsType) {
  json config = tiny_llama();
  config["architectures"] = {"LlamaModel"};
  EXPECT_EQ(find_hf_family(config, "config.json").model_type, "llama");
  config.erase("architectures");
  EXPECT_EQ(find_hf_family(config, "config.json").model_type, "llama");
}

TEST(HfFamily, UnknownKeyIsNamed) {
  json config = tiny_llama();
  config["attention_sinks"] = 4;
  EXPECT_THAT([&] { read_llama(config); },
              ThrowsMessage<Error>(HasSubstr("'attention_sinks' (4)")));
}

// The keys of a published SmolLM2 configuration, and those of other families that change nothing.
TEST(HfFamily, HarmlessKeysOfPublishedFilesAreRead) {
  const json plain = tiny_llama();
  json smollm = plain;
  smollm.update(json{{"_model_name_or_path", "Smollm2 135M 8k Lc100K Mix1 Ep2"},
                     {"attention_bias", false},
                     {"attention_dropout", 0.0},
                     {"bos_token_id", 1},
                     {"dtype", "bfloat16"},
                     {"eos_token_id", 2},
                     {"hidden_act", "silu"},
                     {"initializer_range", 0.02},
                     {"mlp_bias", false},
                     {"pad_token_id", 2},
                     {"pretraining_tp", 1},
                     {"transformers_version", "5.23.0"},
                     {"unk_token_id", 0},
                     {"use_cache", true},
                     {"is_llama_config", true},
                     {"rope_interleaved", false},
                     {"max_sequence_length", 2048},
                     {"model_max_length", 131072},
                     {"hidden_activation", nullptr},
                     {"task_specific_params", nullptr},
                     {"sliding_window", nullptr}});
  EXPECT_EQ(model_differences(read_llama(smollm), read_llama(plain)), "");
  std::vector<std::string> notes;
  read_hf_config(hf_family("llama"), smollm, "config.json", &notes);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("'rope_interleaved' (false)"));

  json starcoder = plain;
  starcoder.update(
      json{{"mlp_type", "default"}, {"norm_type", "layer_norm"}, {"rms_norm_eps", 1.0}});
  EXPECT_EQ(read_hf_config(hf_family("starcoder2"), starcoder, "").transformer.layernorm_epsilon,
            1e-5);
  starcoder["mlp_type"] = "gated";
  EXPECT_THAT([&] { read_hf_config(hf_family("starcoder2"), starcoder, ""); },
              ThrowsMessage<Error>(HasSubstr("'mlp_type'")));
  json bidirectional = plain;
  bidirectional["is_causal"] = false;
  EXPECT_THAT([&] { read_llama(bidirectional); }, ThrowsMessage<Error>(HasSubstr("'is_causal'")));
}

TEST(HfFamily, PartialRotaryFactorIsOfTheFamiliesThatHaveIt) {
  for (const HfFamily& family : hf_families()) {
    if (family.model_type == "gpt2") continue;  // no rotary positions
    const std::set<std::string> with_part = {"phi3", "glm4", "nemotron", "gpt_neox"};
    json config = tiny_llama();
    config.erase("rms_norm_eps");  // some call it otherwise
    config["partial_rotary_factor"] = 1.0;
    EXPECT_EQ(read_hf_config(family, config, "").rotary_percent, 1) << family.model_type;
    json rope = config;
    config["partial_rotary_factor"] = 0.5;
    rope.erase("partial_rotary_factor");
    rope["rope_parameters"] = {
        {"rope_type", "default"}, {"rope_theta", 1e4}, {"partial_rotary_factor", 0.5}};
    for (const json& half : {config, rope}) {
      if (with_part.contains(family.model_type)) {
        EXPECT_EQ(read_hf_config(family, half, "").rotary_percent, 0.5) << family.model_type;
      } else {
        EXPECT_THAT([&] { read_hf_config(family, half, ""); },
                    ThrowsMessage<Error>(HasSubstr("'partial_rotary_factor'")))
            << family.model_type;
      }
    }
  }
}

TEST(HfFamily, MissingKeyValueHeadsAreThoseOfTransformers) {
  const std::pair<const char*, int64_t> expected[] = {
      {"llama", 64},   {"mistral", 8},    {"qwen2", 32},      {"qwen3", 32}, {"exaone4", 32},
      {"gemma", 16},   {"gemma2", 4},     {"gemma3_text", 4}, {"glm4", 2},   {"smollm3", 4},
      {"seed_oss", 8}, {"starcoder2", 2}, {"ernie4_5", 2},    {"olmo2", 64}, {"cohere", 64}};
  for (const auto& [name, groups] : expected) {
    json config = tiny_llama();
    config["num_attention_heads"] = 64;
    config["hidden_size"] = 1024;
    config.erase("rms_norm_eps");
    config.erase("num_key_value_heads");
    EXPECT_EQ(read_hf_config(hf_family(name), config, "").transformer.num_query_groups, groups)
        << name;
    config["num_key_value_heads"] = nullptr;
    EXPECT_EQ(read_hf_config(hf_family(name), config, "").transformer.num_query_groups, 64) << name;
  }
}

TEST(HfFamily, SoftCapOfScoresIsOfGemma2) {
  json config = tiny_llama();
  config["attn_logit_softcapping"] = 0.5;
  EXPECT_EQ(read_hf_config(hf_family("gemma2"), config, "").transformer.attn_logit_softcapping,
            0.5);
  EXPECT_THAT([&] { read_hf_config(hf_family("gemma3_text"), config, ""); },
              ThrowsMessage<Error>(HasSubstr("'attn_logit_softcapping'")));
}

TEST(HfFamily, SmolLm3WindowsNeedTheirSwitch) {
  json config = tiny_llama();
  config["sliding_window"] = 5;
  config["layer_types"] = {"full_attention", "full_attention"};
  EXPECT_TRUE(read_hf_config(hf_family("smollm3"), config, "").transformer.window_size.empty());
  config["layer_types"] = {"full_attention", "sliding_attention"};
  EXPECT_THAT([&] { read_hf_config(hf_family("smollm3"), config, ""); },
              ThrowsMessage<Error>(HasSubstr("'use_sliding_window'")));
}

TEST(HfFamily, SeedOssDropsAttentionByDefault) {
  json config = tiny_llama();
  config.erase("attention_dropout");
  EXPECT_EQ(read_hf_config(hf_family("seed_oss"), config, "").transformer.attention_dropout, 0.1);
  EXPECT_EQ(read_llama(config).transformer.attention_dropout, 0);
}

TEST(HfFamily, LinearRopeScalingDividesThePositions) {
  json config = tiny_llama();
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  const GPTModelConfig model = read_llama(config);
  EXPECT_EQ(model.seq_len_interpolation_factor, 4.0);
  EXPECT_FALSE(model.rope_scaling);
  const json written = write_hf_config(hf_family("llama"), model);
  EXPECT_EQ(written["rope_scaling"]["rope_type"], "linear");
  EXPECT_EQ(written["rope_scaling"]["factor"], 4.0);
}

TEST(HfFamily, Llama3ScalingKeepsItsFactors) {
  json config = tiny_llama();
  config["rope_parameters"] = {{"rope_type", "llama3"},   {"rope_theta", 500000.0},
                               {"factor", 32.0},          {"low_freq_factor", 2.0},
                               {"high_freq_factor", 8.0}, {"original_max_position_embeddings", 64}};
  const GPTModelConfig model = read_llama(config);
  EXPECT_TRUE(model.rope_scaling);
  EXPECT_EQ(model.rope_scaling_low_freq_factor, 2.0);
  EXPECT_EQ(model.rope_scaling_high_freq_factor, 8.0);
  EXPECT_EQ(model.rope_scaling_original_max_position_embeddings, 64);
  const json written = write_hf_config(hf_family("llama"), model);
  EXPECT_EQ(written["rope_scaling"]["low_freq_factor"], 2.0);
  EXPECT_EQ(written["rope_theta"], 500000.0);
}

TEST(HfFamily, YarnKeepsItsAttentionFactor) {
  json config = tiny_llama();
  config["rope_scaling"] = {{"rope_type", "yarn"},
                            {"factor", 4.0},
                            {"original_max_position_embeddings", 32},
                            {"attention_factor", 0.9}};
  const GPTModelConfig model = read_llama(config);
  EXPECT_EQ(model.position_embedding_type, PositionEmbeddingType::yarn);
  EXPECT_EQ(model.transformer.yarn.rotary_scaling_factor, 4.0);
  const json written = write_hf_config(hf_family("llama"), model);
  EXPECT_NEAR(written["rope_scaling"]["attention_factor"].get<double>(), 0.9, 1e-12);
}

TEST(HfFamily, UnknownRopeTypeIsRefusedByName) {
  json config = tiny_llama();
  config["rope_scaling"] = {{"rope_type", "spiral"}, {"factor", 2.0}};
  EXPECT_THAT([&] { read_llama(config); }, ThrowsMessage<Error>(HasSubstr("'spiral'")));
}

TEST(HfFamily, SlidingWindowSurvivesTheExport) {
  json config = tiny_llama();
  config["architectures"] = {"MistralForCausalLM"};
  config["model_type"] = "mistral";
  config["sliding_window"] = 8;
  const HfFamily& family = hf_family("mistral");
  GPTModelConfig model = read_hf_config(family, config, "config.json");
  EXPECT_EQ(model.transformer.window_size, (std::vector<int64_t>{7, 0}));
  EXPECT_EQ(write_hf_config(family, model)["sliding_window"], 8);
  model.transformer.window_size = {15, 0};
  EXPECT_EQ(updated_hf_config(family, config, model)["sliding_window"], 16);
}

TEST(HfFamily, ChangedRotaryBaseReplacesBothSpellings) {
  json config = tiny_llama();
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  config["my_note"] = nullptr;
  config.erase("my_note");
  GPTModelConfig model = read_llama(config);
  model.rotary_base = 500000;
  const json updated = updated_hf_config(hf_family("llama"), config, model);
  EXPECT_FALSE(updated.contains("rope_parameters"));
  EXPECT_EQ(updated["rope_theta"], 500000.0);
}

// The local base has a key of its own in transformers 4, and is a part of rope_parameters in 5.
TEST(HfFamily, ChangedRotaryBaseKeepsThatOfLayersWithAWindow) {
  const HfFamily& family = hf_family("gemma3_text");
  for (const char* file : {"config.json", "config_v4.json"}) {
    const json config = read_json(golden_hf("gemma3") / file);
    GPTModelConfig model = read_hf_config(family, config, file);
    model.rotary_base = 77777;
    model.rotary_base_local = 1234;
    const json updated = updated_hf_config(family, config, model);
    const GPTModelConfig back = read_hf_config(family, updated, "updated");
    EXPECT_EQ(back.rotary_base, 77777) << file;
    EXPECT_EQ(back.rotary_base_local, 1234) << file;
  }
}

TEST(HfFamily, GptNeoxHasTheRotaryKeysOfBothVersions) {
  const HfFamily& family = hf_family("gpt_neox");
  const json config = read_json(golden_hf("gpt_neox") / "config.json");
  GPTModelConfig model = read_hf_config(family, config, "config.json");
  model.rotary_base = 5000;
  model.rotary_percent = 0.5;
  const json written = write_hf_config(family, model);
  EXPECT_EQ(written["rotary_emb_base"], 5000);
  EXPECT_EQ(written["rotary_pct"], 0.5);
  EXPECT_EQ(written["rope_theta"], 5000);
  EXPECT_EQ(written["partial_rotary_factor"], 0.5);
}

// --window-attn-skip-freq 3 and one entry per layer are the same model.
TEST(HfFamily, PatternsOfLayersHaveTwoSpellings) {
  const json config = read_json(golden_hf("gemma3") / "config.json");
  const HfFamily& family = hf_family("gemma3_text");
  GPTModelConfig model = read_hf_config(family, config, "config.json");
  TransformerConfig& t = model.transformer;
  t.window_attn_skip_freq = {2};
  const json types = write_hf_config(family, model)["layer_types"];
  for (int64_t layer = 1; layer <= t.num_layers; ++layer)
    EXPECT_EQ(types[size_t(layer - 1)], layer % 2 == 0 ? "full_attention" : "sliding_attention");
}

TEST(HfFamily, GeluNamesSelectTheRightForm) {
  for (const auto& [name, function] :
       {std::pair{"gelu", ActivationFunction::gelu},
        std::pair{"gelu_pytorch_tanh", ActivationFunction::openai_gelu},
        std::pair{"gelu_new", ActivationFunction::openai_gelu}}) {
    json config = tiny_llama();
    config["hidden_act"] = name;
    EXPECT_EQ(read_llama(config).transformer.activation_func, function) << name;
  }
}

TEST(HfFamily, ModelWithoutSourceTakesTheFirstFamilyThatExpressesIt) {
  GPTModelConfig model = read_llama(tiny_llama());
  EXPECT_EQ(family_of_model(model).model_type, "llama");
  model.transformer.window_size = {7, 0};
  EXPECT_EQ(family_of_model(model).model_type, "mistral");
  model.transformer.window_size.clear();
  model.transformer.add_qkv_bias = true;
  EXPECT_EQ(family_of_model(model).model_type, "qwen2");
  model.transformer.softmax_type = SoftmaxType::off_by_one;
  EXPECT_THAT([&] { family_of_model(model); }, ThrowsMessage<Error>(HasSubstr("softmax_type")));
}

TEST(HfFamily, ParameterThatTheFamilyLacksIsNamed) {
  GPTModelConfig model = read_llama(tiny_llama());
  model.transformer.mtp.mtp_num_layers = 1;
  EXPECT_THAT([&] { make_tensor_map(hf_family("llama").rows, model, "llama"); },
              ThrowsMessage<Error>(HasSubstr("mtp.layers.0")));
}

}  // namespace
}  // namespace megatron
