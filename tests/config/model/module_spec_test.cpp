// Specs as data: equality, printing, JSON; sources of layer specs.
#include "megatron/config/model/module_spec.h"

#include <gmock/gmock.h>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/config/model/norm_keys.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

ModuleSpec sample_spec() {
  return {.module = "TransformerLayer",
          .params = {},
          .submodules = {{"input_layernorm", {}},
                         {"self_attention",
                          {.module = "SelfAttention",
                           .params = {{"attn_mask_type", std::string("causal")},
                                      {"dropout", 0.5},
                                      {"groups", int64_t{2}},
                                      {"packed", true}},
                           .submodules = {{"linear_qkv", {.module = "ColumnParallelLinear"}}}}}},
          .sharded_state_dict_keys_map = {{"a.", "b."}}};
}

TEST(ModuleSpec, ComparesEveryPart) {
  EXPECT_EQ(sample_spec(), sample_spec());
  const std::function<void(ModuleSpec&)> changes[] = {
      [](ModuleSpec& spec) { spec.module = "X"; },
      [](ModuleSpec& spec) { spec.params["x"] = true; },
      [](ModuleSpec& spec) { spec.submodules["self_attention"].params["groups"] = 2.0; },
      [](ModuleSpec& spec) { spec.submodules.erase("input_layernorm"); },
      [](ModuleSpec& spec) { spec.sharded_state_dict_keys_map["a."] = "c."; }};
  for (const auto& change : changes) {
    ModuleSpec changed = sample_spec();
    change(changed);
    EXPECT_NE(changed, sample_spec());
  }
}

TEST(ModuleSpec, FindsSlots) {
  const ModuleSpec spec = sample_spec();
  EXPECT_EQ(spec.at("self_attention.linear_qkv").module, "ColumnParallelLinear");
  EXPECT_TRUE(spec.submodule("mlp").is_identity());
  EXPECT_TRUE(spec.submodule("input_layernorm").is_identity());
  EXPECT_THAT([&] { spec.at("self_attention.linear_qk"); },
              ThrowsMessage<Error>("Expected a slot of SelfAttention, but got 'linear_qk'; the "
                                   "nearest is linear_qkv"));
}

TEST(ModuleSpec, PrintsOneLinePerSlot) {
  EXPECT_EQ(to_string(sample_spec()),
            "TransformerLayer\n"
            "  input_layernorm: IdentityOp\n"
            "  self_attention: SelfAttention(attn_mask_type=causal, dropout=0.5, groups=2, "
            "packed=true)\n"
            "    linear_qkv: ColumnParallelLinear\n"
            "  key a. is b.\n");
  const ModuleSpec a{.module = "A"}, b{.module = "B"};
  EXPECT_EQ(to_string(TransformerBlockSubmodules{{a, a, b}, {.module = "Norm"}}),
            "layers 1 to 2: A\nlayer 3: B\nlayer_norm: Norm\n");
}

TEST(ModuleSpec, JsonRoundTrip) {
  const ModuleSpec spec = sample_spec();
  EXPECT_EQ(module_spec_from_json(nlohmann::json::parse(to_json(spec).dump())), spec);
  EXPECT_EQ(to_json(ModuleSpec{}).dump(), R"({"module":"IdentityOp"})");
  const TransformerBlockSubmodules block{{spec, {.module = "B"}}, {.module = "TENorm"}};
  EXPECT_EQ(block_spec_from_json(nlohmann::json::parse(to_json(block).dump())), block);
}

TEST(ModuleSpec, RefusesOtherJson) {
  const auto error_of = [](const char* text) -> std::string {
    const nlohmann::json json = nlohmann::json::parse(text);
    try {
      if (json.is_object() && json.contains("layer_norm")) {
        block_spec_from_json(json);
      } else {
        module_spec_from_json(json);
      }
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(error_of("3"), "Expected an object at the top of a spec, but got 3");
  EXPECT_EQ(error_of(R"({"modul": "A"})"),
            "Expected the members module, params, submodules, sharded_state_dict_keys_map at the "
            "top of a spec, but got 'modul'; the nearest is module");
  EXPECT_EQ(error_of(R"({"params": {}})"),
            R"(Expected a module at the top of a spec, but got {"params":{}})");
  EXPECT_EQ(error_of(R"({"module": 1})"),
            "Expected a string at the top.module of a spec, but got 1");
  EXPECT_EQ(
      error_of(R"({"module": "A", "submodules": {"mlp": {"module": "M", "params": {"x": []}}}})"),
      "Expected a boolean, a number or a string at the top.submodules.mlp.params.x of a "
      "spec, but got []");
  EXPECT_EQ(error_of(R"({"module": "A", "params": {"x": 18446744073709551615}})"),
            "Expected a 64-bit integer at the top.params.x of a spec, but got "
            "18446744073709551615");
  EXPECT_EQ(error_of(R"({"module": "A", "submodules": []})"),
            "Expected an object at the top.submodules of a spec, but got []");
  EXPECT_THAT(error_of(R"({"layer_norm": {"module": "N"}})"),
              HasSubstr("Expected layer_specs in a block spec"));
  EXPECT_EQ(error_of(R"({"layer_norm": {"module": "N"}, "layer_specs": {}})"),
            "Expected a list at the top.layer_specs of a spec, but got {}");
  EXPECT_EQ(error_of(R"({"layer_norm": {"module": "N"}, "layer_specs": [{"module": "A"}, 1]})"),
            "Expected an object at the top.layer_specs[1] of a spec, but got 1");
}

ModuleSpec spec_of_config(const GPTModelConfig& config) {
  return {.module = config.vocab_size > 0 ? "Known" : "Unknown"};
}
ModuleSpec spec_of_stage(const GPTModelConfig&, std::optional<int64_t> vp_stage) {
  return {.module = vp_stage ? fmt::format("Stage{}", *vp_stage) : "Alone"};
}
ModuleSpec spec_of_transformer(const TransformerConfig& config) {
  return {.module = fmt::format("Layers{}", config.num_layers)};
}

std::string module_of(const LayerSpecSource& source, const GPTModelConfig& config,
                      std::optional<int64_t> vp_stage = {}) {
  return std::get<ModuleSpec>(source.resolve(config, vp_stage)).module;
}

TEST(LayerSpecSource, HoldsASpecOrAFunction) {
  GPTModelConfig config;
  config.vocab_size = 5;
  config.transformer.num_layers = 3;
  EXPECT_EQ(config.transformer_layer_spec.name(), "default_layer_spec");
  EXPECT_EQ(module_of(sample_spec(), config), "TransformerLayer");
  EXPECT_EQ(module_of(spec_of_config, config), "Known");
  EXPECT_EQ(module_of(spec_of_stage, config), "Alone");
  EXPECT_EQ(module_of(spec_of_stage, config, 1), "Stage1");
  EXPECT_EQ(module_of(spec_of_transformer, config), "Layers3");
  const std::string captured = "Captured";
  EXPECT_EQ(module_of([captured](const GPTModelConfig&) { return ModuleSpec{captured}; }, config),
            "Captured");
  const TransformerBlockSubmodules block{{sample_spec()}, {}};
  EXPECT_EQ(std::get<TransformerBlockSubmodules>(LayerSpecSource(block).resolve(config)), block);
}

TEST(LayerSpecSource, IsStoredByItsRegisteredName) {
  register_layer_spec("spec_of_config", &spec_of_config);
  const LayerSpecSource by_function = spec_of_config, by_name = "spec_of_config";
  EXPECT_EQ(by_function, by_name);
  EXPECT_EQ(to_json(by_function), "spec_of_config");
  EXPECT_EQ(layer_spec_source_from_json("spec_of_config"), by_function);
  for (const LayerSpecSource& data :
       {LayerSpecSource(sample_spec()),
        LayerSpecSource(TransformerBlockSubmodules{{sample_spec()}, {}})}) {
    EXPECT_EQ(layer_spec_source_from_json(to_json(data)), data);
  }
  EXPECT_THAT([] { to_json(LayerSpecSource(spec_of_stage)); },
              ThrowsMessage<Error>(HasSubstr("a function without a name")));
  EXPECT_THAT([] { to_json(LayerSpecSource([](const GPTModelConfig&) { return ModuleSpec{}; })); },
              ThrowsMessage<Error>(HasSubstr("a function without a name")));
  EXPECT_THAT([] { layer_spec_source_from_json("spec_of_confog"); },
              ThrowsMessage<Error>(HasSubstr("the nearest is spec_of_config")));
  EXPECT_THAT([] { layer_spec_source_from_json(3); },
              ThrowsMessage<Error>(HasSubstr("the name of a layer spec function or a spec")));
  EXPECT_THAT([] { LayerSpecSource("no_such_spec").resolve({}); },
              ThrowsMessage<Error>(HasSubstr("but got 'no_such_spec'")));
  EXPECT_THAT([] { register_layer_spec("spec_of_config", &spec_of_config); },
              ThrowsMessage<Error>(HasSubstr("which is registered")));
}

TEST(LayerSpecSource, EqualityFollowsTheSource) {
  EXPECT_NE(LayerSpecSource("a"), LayerSpecSource("b"));
  EXPECT_NE(LayerSpecSource("a"), LayerSpecSource(sample_spec()));
  EXPECT_EQ(LayerSpecSource(spec_of_stage), LayerSpecSource(spec_of_stage));
  EXPECT_NE(LayerSpecSource(spec_of_stage), LayerSpecSource(spec_of_transformer));
  const auto lambda = [](const GPTModelConfig&) { return ModuleSpec{}; };
  EXPECT_NE(LayerSpecSource(lambda), LayerSpecSource(lambda));
}

// Ranks may be threads.
TEST(LayerSpecSource, RegistersFromSeveralThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      for (int j = 0; j < 50; ++j) {
        const std::string name = fmt::format("threaded_{}_{}", i, j);
        register_layer_spec(name, &spec_of_config);
        LayerSpecSource(name).resolve({});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(registered_layer_specs().size(), 200);
}

TEST(NormKeys, StandaloneNamesOfFusedNorms) {
  EXPECT_EQ(standalone_norm_name("decoder.layers.3.self_attention.linear_qkv.layer_norm_weight"),
            "decoder.layers.3.input_layernorm.weight");
  EXPECT_EQ(standalone_norm_name("optimizer.m.mtp.layers.0.x.mlp.linear_fc1.layer_norm_bias"),
            "optimizer.m.mtp.layers.0.x.pre_mlp_layernorm.bias");
  EXPECT_EQ(standalone_norm_name("a.self_attention.linear_kv_up_proj.layer_norm_weight"),
            "a.self_attention.kv_layernorm.weight");
  EXPECT_EQ(standalone_norm_name("decoder.final_layernorm.weight"), std::nullopt);
  EXPECT_EQ(standalone_norm_name("decoder.layers.0.self_attention.linear_qkv.weight"),
            std::nullopt);
}

}  // namespace
}  // namespace megatron
