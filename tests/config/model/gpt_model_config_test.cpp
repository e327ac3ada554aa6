// Defaults, names, dictionaries and finalize() of GPTModelConfig.
#include "megatron/config/model/gpt_model_config.h"

#include <gmock/gmock.h>
#include <set>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/config/model/config_fields.h"
#include "megatron/config/model/config_yaml.h"
#include "megatron/config/model/fixed_fields.h"
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

GPTModelConfig described_config() {
  GPTModelConfig config{.transformer = {}, .vocab_size = 1000, .seq_length = 64};
  config.transformer.num_layers = 4;
  config.transformer.hidden_size = 64;
  config.transformer.num_attention_heads = 4;
  return config;
}

// The page of Megatron-Bridge's gpt_builder.
TEST(GPTModelConfigFields, HaveTheDocumentedDefaults) {
  const nlohmann::json page = {{"restore_modelopt_state", false},
                               {"extra_checkpoint_metadata", nullptr},
                               {"transformer_layer_spec", "default_layer_spec"},
                               {"vocab_size", nullptr},
                               {"make_vocab_size_divisible_by", 128},
                               {"should_pad_vocab", false},
                               {"seq_length", 1024},
                               {"fp16_lm_cross_entropy", false},
                               {"parallel_output", true},
                               {"share_embeddings_and_output_weights", false},
                               {"position_embedding_type", "learned_absolute"},
                               {"rotary_percent", 1.0},
                               {"rotary_base", 10000},
                               {"rope_scaling", false},
                               {"rope_scaling_factor", 8.0},
                               {"scatter_embedding_sequence_parallel", true},
                               {"seq_len_interpolation_factor", nullptr},
                               {"tp_comm_overlap_cfg", nullptr},
                               {"use_transformer_engine_full_layer_spec", false},
                               {"use_transformer_engine_op_fuser", false},
                               {"use_arbitrary_attention_mask", nullptr}};
  const GPTModelConfig config;
  for (const auto& [name, value] : page.items()) EXPECT_EQ(config.get(name), value) << name;
  EXPECT_EQ(config.builder, "megatron.bridge.models.GPTModelBuilder");
}

TEST(GPTModelConfigFields, TheCommandLineKeepsItsOwnDefaults) {
  const Options options;
  EXPECT_TRUE(options.model.share_embeddings_and_output_weights);
  EXPECT_TRUE(options.model.should_pad_vocab);
  EXPECT_FALSE(options.model.vocab_size);
}

TEST(GPTModelConfigFields, LookupReachesTheTransformer) {
  GPTModelConfig config = described_config();
  EXPECT_EQ(config.get("hidden_size"), 64);
  config.set("hidden_size", 128);
  EXPECT_EQ(config.transformer.hidden_size, 128);
  config.set("rotary_base", 500000);
  EXPECT_EQ(config.rotary_base, 500000);
  EXPECT_EQ(config.get("rotary_base"), 500000);
  config.set("activation_func", "silu");
  EXPECT_EQ(config.transformer.activation_func, ActivationFunction::silu);
  config.set("params_dtype", "bf16");
  EXPECT_EQ(config.transformer.params_dtype, at::kBFloat16);
  config.set("virtual_pipeline_model_parallel_size", 2);
  EXPECT_EQ(config.transformer.pipeline.virtual_pipeline_model_parallel_size, 2);
  config.set("virtual_pipeline_model_parallel_size", nullptr);
  EXPECT_FALSE(config.transformer.pipeline.virtual_pipeline_model_parallel_size);
  config.set("use_arbitrary_attention_mask", false);
  EXPECT_EQ(config.use_arbitrary_attention_mask, false);
}

TEST(GPTModelConfigFields, UnknownNamesAndOtherTypesAreErrors) {
  GPTModelConfig config = described_config();
  EXPECT_THAT([&] { config.set("hiden_size", 3); },
              ThrowsMessage<Error>(HasSubstr("got 'hiden_size'; the nearest is hidden_size")));
  EXPECT_THAT([&] { config.get("vocab_siz"); },
              ThrowsMessage<Error>(HasSubstr("nearest is vocab_size")));
  EXPECT_THAT([&] { config.set("vocab_size", "many"); },
              ThrowsMessage<Error>(HasSubstr("Expected an integer for vocab_size")));
  EXPECT_THAT([&] { config.set("num_layers", nullptr); },
              ThrowsMessage<Error>(HasSubstr("Expected an integer for num_layers")));
  for (const char* name : {"normalization", "position_embedding_type", "transformer_impl",
                           "attention_backend", "activation_func"})
    EXPECT_THAT([&] { config.set(name, nullptr); },
                ThrowsMessage<Error>(HasSubstr("Expected one of")))
        << name;
  // None by default in Megatron.
  for (const char* name : {"cp_comm_type", "mtp_num_layers", "pipeline_model_parallel_layout"}) {
    config.set(name, nullptr);
    EXPECT_EQ(config.get(name), GPTModelConfig().get(name)) << name;
  }
  EXPECT_THAT([&] { config.set("extra_checkpoint_metadata", 3); },
              ThrowsMessage<Error>(HasSubstr("Expected an object or null")));
  EXPECT_EQ(config.transformer.hidden_size, 64);
}

TEST(GPTModelConfigFields, WhatIsNotSupportedYetSaysSo) {
  GPTModelConfig config = described_config();
  const auto refuses = [&](const char* name, const nlohmann::json& value, const char* message) {
    EXPECT_THAT([&] { config.set(name, value); }, ThrowsMessage<Error>(HasSubstr(message)));
    nlohmann::json json = config.as_dict();
    json["transformer"][name] = value;
    EXPECT_THAT([&] { GPTModelConfig::from_dict(json); }, ThrowsMessage<Error>(HasSubstr(message)));
  };
  refuses("enable_autocast", true, "bf16 and fp16 work");
  refuses("fp8_param", true, "this option of FP8 and FP4 is not supported in this version");
  refuses("fp4", "e2m1", "this option of FP8 and FP4 is not supported in this version");
  refuses("fp8_of_next_year", true, "this option of FP8 and FP4 is not supported in this version");
  refuses("cpu_offloading", true, "offloading to the CPU is not supported in this version");
  refuses("flash_decode", true, "this kind of inference is not supported in this version");
  refuses("attention_softmax_in_fp32", false, "this version supports no other value");
  config.set("fp16", true);
  EXPECT_EQ(config.get("fp16"), true);
  EXPECT_EQ(config.transformer.compute_dtype(), at::kHalf);
  config.set("fp8", "hybrid");
  EXPECT_EQ(config.get("fp8"), "hybrid");
  config.set("fp8", nullptr);
  config.set("fp16", false);
  // As files of Megatron-Bridge have them.
  nlohmann::json json = config.as_dict();
  json["transformer"]["fp8"] = nullptr;
  json["transformer"]["fp8_recipe"] = "delayed";
  json["transformer"]["cpu_offloading"] = false;
  for (const bool fused : {false, true}) json["transformer"]["masked_softmax_fusion"] = fused;
  EXPECT_EQ(GPTModelConfig::from_dict(json).as_dict(), config.as_dict());
}

const void* address_of_field(const FieldValue& value) {
  return std::visit(
      [](const auto& held) -> const void* {
        if constexpr (requires { held.field; }) {
          return held.field;
        } else {
          return held;
        }
      },
      value);
}

TEST(GPTModelConfigFields, MembersThatAreNoFieldsHaveErrorsOfTheirOwn) {
  GPTModelConfig config = described_config();
  EXPECT_EQ(config.get("builder"), "megatron.bridge.models.GPTModelBuilder");
  config.set("builder", "someone.elses.Builder");
  EXPECT_EQ(config.builder, "someone.elses.Builder");
  for (const char* name : {"pre_wrap_hooks", "post_wrap_hooks"}) {
    EXPECT_THAT([&] { config.get(name); }, ThrowsMessage<Error>(HasSubstr("holds functions")));
    EXPECT_THAT([&] { config.set(name, nlohmann::json::array()); },
                ThrowsMessage<Error>(HasSubstr("holds functions")));
  }
  EXPECT_THAT([&] { config.get("transformer"); },
              ThrowsMessage<Error>(HasSubstr("which holds fields")));
}

TEST(GPTModelConfigFields, EveryNameAndEveryMemberHasOneOwner) {
  GPTModelConfig config;
  const ConfigFields fields = fields_of(config);
  for (const FixedField& fixed : fixed_fields())
    EXPECT_EQ(fields.find(fixed.name), nullptr) << fixed.name;
  std::set<std::string> names;
  for (const std::string& name : fields.names()) EXPECT_TRUE(names.insert(name).second) << name;
  std::set<const void*> members;
  for (const std::string& name : names)
    EXPECT_TRUE(members.insert(address_of_field(fields.at(name))).second) << name;
}

// Both lists name the same members; the option table may have other flags, not other fields.
TEST(GPTModelConfigFields, AgreeWithTheOptionTable) {
  Options options;
  const ConfigFields fields = fields_of(options.model);
  const auto begin = reinterpret_cast<uintptr_t>(&options.model);
  int shared = 0;
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand()) continue;
    const void* member = address_of_field(option.value(options));
    const auto at = reinterpret_cast<uintptr_t>(member);
    if (at < begin || at >= begin + sizeof(options.model)) continue;
    const FieldValue* field = fields.find(option.name());
    ASSERT_NE(field, nullptr) << option.name() << " is no field of GPTModelConfig";
    EXPECT_EQ(address_of_field(*field), member) << option.name();
    ++shared;
  }
  EXPECT_GT(shared, 90);
}

TEST(GPTModelConfigDictionary, RoundTripsEveryField) {
  GPTModelConfig config = described_config();
  config.builder = "someone.elses.Builder";
  config.restore_modelopt_state = true;
  config.extra_checkpoint_metadata = {{"origin", "a run"}, {"numbers", {1, 2}}};
  config.pre_wrap_hooks = {[](const ModelChunks&) { return std::nullopt; }};
  config.transformer_layer_spec = ModuleSpec{.module = "TransformerLayer"};
  config.seq_len_interpolation_factor = 2.5;
  config.tp_comm_overlap_cfg.entries["qkv_fprop"] = {.method = "ring_exchange", .num_splits = 2};
  config.use_arbitrary_attention_mask = true;
  config.transformer.activation_func = ActivationFunction::squared_relu;
  config.transformer.params_dtype = at::kBFloat16;
  config.transformer.window_size = {7, 0};
  config.transformer.recompute.recompute_modules = {"core_attn", "mlp"};
  config.transformer.yarn.beta_fast = 31.25;
  config.transformer.mla.yarn.beta_fast = 0.1;
  config.transformer.pipeline.pipeline_model_parallel_layout = "Et|tL";
  const nlohmann::json json = config.as_dict();
  EXPECT_EQ(json["_builder_"], "someone.elses.Builder");
  EXPECT_EQ(json["_target_"], "megatron.bridge.models.gpt.gpt_builder.GPTModelConfig");
  EXPECT_EQ(json["transformer"]["_target_"],
            "megatron.bridge.models.transformer_config.TransformerConfig");
  EXPECT_FALSE(json.contains("pre_wrap_hooks"));
  for (const GPTModelConfig& read : {GPTModelConfig::from_dict(nlohmann::json::parse(json.dump())),
                                     GPTModelConfig::from_yaml(config.to_yaml())}) {
    EXPECT_EQ(read.as_dict(), json);
    EXPECT_EQ(read.builder, "someone.elses.Builder");
    EXPECT_TRUE(read.pre_wrap_hooks.empty());
    EXPECT_EQ(read.transformer.recompute.recompute_modules,
              config.transformer.recompute.recompute_modules);
    EXPECT_EQ(read.transformer.mla.yarn.beta_fast, 0.1);
    EXPECT_EQ(read.tp_comm_overlap_cfg, config.tp_comm_overlap_cfg);
    EXPECT_EQ(read.transformer_layer_spec, config.transformer_layer_spec);
  }
}

// A value other than the default reaches every field and comes back.
TEST(GPTModelConfigDictionary, NoFieldIsForgotten) {
  GPTModelConfig config, copy;
  const ConfigFields fields = fields_of(config);
  for (const std::string& name : fields.names()) {
    const nlohmann::json value = config.get(name);
    nlohmann::json other = value;
    if (value.is_boolean()) other = !value.get<bool>();
    if (value.is_number_integer()) other = value.get<int64_t>() + 3;
    if (value.is_number_float()) other = value.get<double>() + 0.5;
    if (other == value) continue;
    config.set(name, other);
    EXPECT_NE(config.as_dict(), copy.as_dict()) << name;
    EXPECT_EQ(GPTModelConfig::from_dict(config.as_dict()).get(name), other) << name;
    config.set(name, value);
  }
}

TEST(GPTModelConfigDictionary, BadInputIsRefused) {
  const nlohmann::json good = described_config().as_dict();
  const auto refuses = [](const nlohmann::json& json, const char* message) {
    EXPECT_THAT([&] { GPTModelConfig::from_dict(json); }, ThrowsMessage<Error>(HasSubstr(message)));
  };
  nlohmann::json json = good;
  json["seq_lenght"] = 3;
  refuses(json, "but got 'seq_lenght'; the nearest is seq_length");
  json = good;
  json["transformer"]["hidden_sizes"] = 3;
  refuses(json, "but got 'hidden_sizes'; the nearest is hidden_size");
  json = good;
  json["transformer"] = nullptr;
  refuses(json, "Expected an object for megatron.bridge.models.transformer_config");
  json = good;
  json.erase("_target_");
  refuses(json, "Expected _target_ to be megatron.bridge.models.gpt.gpt_builder.GPTModelConfig");
  json = good;
  json["_target_"] = "os.system";
  refuses(json, "but got \"os.system\"");
  json = good;
  json["vocab_size"] = 1.5;
  refuses(json, "Expected an integer for vocab_size");
  json = good;
  json["_builder_"] = 7;
  refuses(json, "Expected a string for _builder_");
  json = good;
  json["tp_comm_overlap_cfg"] = {{"qkv_fprop", {{"splits", 3}}}};
  refuses(json, "tp_comm_overlap_cfg.qkv_fprop.splits");
  refuses(nlohmann::json::array(), "Expected an object");
  EXPECT_THAT([] { GPTModelConfig::from_yaml("a: [1,"); },
              ThrowsMessage<Error>(HasSubstr("Expected YAML, but got in line")));
}

TEST(GPTModelConfigDictionary, AFunctionWithoutANameIsNotStored) {
  GPTModelConfig config = described_config();
  config.transformer_layer_spec = [](const GPTModelConfig&) { return ModuleSpec{}; };
  EXPECT_THAT([&] { config.as_dict(); },
              ThrowsMessage<Error>(HasSubstr("but got a function without a name")));
}

TEST(GPTModelConfigFields, AnEmptyFunctionIsNoLayerSpec) {
  GPTModelConfig config = described_config();
  ModuleSpec (*const null)(const GPTModelConfig&) = nullptr;
  const std::function<ModuleSpec(const GPTModelConfig&)> empty;
  const auto names_it =
      ThrowsMessage<Error>(HasSubstr("Expected a function for transformer_layer_spec"));
  EXPECT_THAT([&] { config.transformer_layer_spec = null; }, names_it);
  EXPECT_THAT([&] { config.transformer_layer_spec = empty; }, names_it);
}

TEST(ConfigYaml, ValuesKeepTheirTypes) {
  const nlohmann::json json = {{"text", "true"},
                               {"number_text", "12"},
                               {"empty", ""},
                               {"yes", true},
                               {"none", nullptr},
                               {"real", 1e-5},
                               {"whole", 3},
                               {"list", {"a", "b"}},
                               {"nested", {{"x", "~"}}},
                               {"quote", "a \"b\": c\n"},
                               {"no_items", nlohmann::json::array()}};
  EXPECT_EQ(yaml_to_json(json_to_yaml(json)), json);
  EXPECT_EQ(yaml_to_json("a: 1\nb: .5\nc: text\nd: ~\n"),
            (nlohmann::json{{"a", 1}, {"b", 0.5}, {"c", "text"}, {"d", nullptr}}));
  EXPECT_THAT([] { yaml_to_json("a: 1\na: 2\n"); },
              ThrowsMessage<Error>(HasSubstr("the key 'a' once")));
}

TEST(Finalize, SetsFieldsThatFollowFromOthers) {
  GPTModelConfig config = described_config();
  config.transformer.sequence_parallel = true;
  config.finalize();
  EXPECT_FALSE(config.transformer.sequence_parallel);
  EXPECT_FALSE(config.transformer.pipeline_dtype);
  config.transformer.tensor_model_parallel_size = config.transformer.pipeline_model_parallel_size =
      2;
  config.transformer.sequence_parallel = true;
  config.transformer.bf16 = true;
  config.finalize();
  EXPECT_TRUE(config.transformer.sequence_parallel);
  EXPECT_EQ(config.get("pipeline_dtype"), "bf16");
}

TEST(Finalize, MayBeCalledAgainAfterAChange) {
  GPTModelConfig config = described_config();
  config.vocab_size.reset();  // not needed before a model is built
  config.finalize();
  config.finalize();
  config.transformer.num_attention_heads = 5;
  EXPECT_THAT([&] { config.finalize(); }, ThrowsMessage<Error>(HasSubstr("num_attention_heads")));
  config.transformer.num_attention_heads = 8;
  EXPECT_NO_THROW(config.finalize());
  // What finalize() derived does not hold it back.
  config.transformer.pipeline_model_parallel_size = 2;
  config.finalize();
  for (const bool bf16 : {true, false, true}) {
    config.transformer.bf16 = bf16;
    EXPECT_NO_THROW(config.finalize());
    EXPECT_EQ(config.get("pipeline_dtype"), bf16 ? "bf16" : "fp32");
  }
  config.transformer.bf16 = false;
  config.transformer.pipeline_model_parallel_size = 1;
  EXPECT_NO_THROW(config.finalize());
}

struct InvalidSplit {
  const char* name;
  std::function<void(TransformerConfig&)> change;
  const char* message;  // empty: valid
};

// Megatron checks the virtual stages only, and loses layers where the stages do not divide them.
const InvalidSplit kSplits[] = {
    {"stages", [](auto& t) { t.num_layers = 5; }, "num_layers"},
    {"virtual_stages", [](auto& t) { t.pipeline.virtual_pipeline_model_parallel_size = 3; }, "3"},
    {"first_stage",
     [](auto& t) {
       t.num_layers = 5;
       t.pipeline.num_layers_in_first_pipeline_stage = 2;
     },
     ""},
    {"layout",
     [](auto& t) {
       t.num_layers = 5;
       t.pipeline.pipeline_model_parallel_layout = "Ettt|ttL";
     },
     ""},
    {"embedding_as_a_layer",
     [](auto& t) {
       t.num_layers = 5;
       t.pipeline.account_for_embedding_in_pipeline_split = true;
     },
     ""},
    {"cuda_graphs", [](auto& t) { t.cuda_graph_impl = CudaGraphImpl::local; }, "cuda_graph_impl"},
};

TEST(Finalize, ChecksLayersOverStages) {
  for (const InvalidSplit& split : kSplits) {
    GPTModelConfig config = described_config();
    config.transformer.pipeline_model_parallel_size = 2;
    split.change(config.transformer);
    if (*split.message == '\0') {
      EXPECT_NO_THROW(config.finalize()) << split.name;
    } else {
      EXPECT_THAT([&] { config.finalize(); }, ThrowsMessage<Error>(HasSubstr(split.message)))
          << split.name;
    }
  }
}

TEST(VocabularyPadding, RoundsUpToTheUnitTimesTheTensorParallelSize) {
  GPTModelConfig config = described_config();
  config.vocab_size = 50257;
  EXPECT_EQ(config.padded_vocab_size(), 50257);
  config.should_pad_vocab = true;
  for (const auto& [tp, padded] : {std::pair{1, 50304}, {2, 50432}, {4, 50688}, {8, 51200}}) {
    config.transformer.tensor_model_parallel_size = tp;
    EXPECT_EQ(config.padded_vocab_size(), padded);
  }
  config.make_vocab_size_divisible_by = 0;
  EXPECT_THAT([&] { config.padded_vocab_size(); },
              ThrowsMessage<Error>(HasSubstr("make_vocab_size_divisible_by")));
  config.vocab_size.reset();
  EXPECT_THAT([&] { config.padded_vocab_size(); },
              ThrowsMessage<Error>(HasSubstr("Expected vocab_size of at least 1")));
}

}  // namespace
}  // namespace megatron
