// Spec functions: the module in every slot, in the spec and as built; registry errors.
#include <gmock/gmock.h>
#include <typeinfo>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/models/gpt/gpt_layer_specs.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/layer_norm_column_parallel_linear.h"
#include "megatron/transformer/mlp.h"
#include "megatron/transformer/module_registry.h"
#include "megatron/transformer/multi_latent_attention.h"
#include "megatron/transformer/self_attention.h"
#include "megatron/transformer/te_transformer_layer_autocast.h"

#include "tests/models/gpt/small_gpt.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

enum class Variant { plain, query_groups, qk_layernorm, qk_l2_norm, latent, latent_qk_layernorm };

GPTModelConfig config_of(Variant variant, Normalization normalization = Normalization::LayerNorm) {
  GPTModelConfig config = small_gpt_config();
  TransformerConfig& t = config.transformer;
  t.normalization = normalization;
  switch (variant) {
    case Variant::plain:
      break;
    case Variant::query_groups:
      t.num_query_groups = 2;
      break;
    case Variant::qk_layernorm:
      t.qk_layernorm = true;
      break;
    case Variant::qk_l2_norm:
      t.qk_l2_norm = true;
      break;
    case Variant::latent:
    case Variant::latent_qk_layernorm:
      use_latent_attention(config);
      config.position_embedding_type = PositionEmbeddingType::rope;
      t.mla.q_lora_rank = 6;
      t.qk_layernorm = variant == Variant::latent_qk_layernorm;
      break;
  }
  return config;
}

using Slots = std::map<std::string, std::string>;

// Every slot of the spec, by path.
void collect_slots(const ModuleSpec& spec, const std::string& prefix, Slots& slots) {
  for (const auto& [slot, submodule] : spec.submodules) {
    slots[prefix + slot] = submodule.module;
    collect_slots(submodule, prefix + slot + ".", slots);
  }
}
Slots slots_of(const ModuleSpec& spec) {
  Slots slots;
  collect_slots(spec, "", slots);
  return slots;
}

Slots with(Slots slots, const Slots& others) {
  for (const auto& [slot, module] : others) slots[slot] = module;
  return slots;
}

// The reference's table of slots, for grouped attention.
const Slots kTransformerEngineSlots = {
    {"input_layernorm", "IdentityOp"},
    {"self_attention", "SelfAttention"},
    {"self_attention.linear_qkv", "TELayerNormColumnParallelLinear"},
    {"self_attention.core_attention", "TEDotProductAttention"},
    {"self_attention.linear_proj", "TERowParallelLinear"},
    {"self_attention.q_layernorm", "IdentityOp"},
    {"self_attention.k_layernorm", "IdentityOp"},
    {"self_attn_bda", "get_bias_dropout_add"},
    {"pre_mlp_layernorm", "IdentityOp"},
    {"mlp", "MLP"},
    {"mlp.linear_fc1", "TELayerNormColumnParallelLinear"},
    {"mlp.linear_fc2", "TERowParallelLinear"},
    {"mlp_bda", "get_bias_dropout_add"}};
const Slots kLocalSlots = {{"input_layernorm", "FusedLayerNorm"},
                           {"self_attention", "SelfAttention"},
                           {"self_attention.linear_qkv", "ColumnParallelLinear"},
                           {"self_attention.core_attention", "DotProductAttention"},
                           {"self_attention.linear_proj", "RowParallelLinear"},
                           {"self_attention.q_layernorm", "IdentityOp"},
                           {"self_attention.k_layernorm", "IdentityOp"},
                           {"self_attn_bda", "get_bias_dropout_add"},
                           {"pre_mlp_layernorm", "FusedLayerNorm"},
                           {"mlp", "MLP"},
                           {"mlp.linear_fc1", "ColumnParallelLinear"},
                           {"mlp.linear_fc2", "RowParallelLinear"},
                           {"mlp_bda", "get_bias_dropout_add"}};
const Slots kModeloptSlots =
    with(kLocalSlots, {{"input_layernorm", "Norm"},
                       {"pre_mlp_layernorm", "Norm"},
                       {"self_attention.core_attention", "TEDotProductAttention"}});

Slots with_head_norms(const Slots& slots, const char* norm) {
  return with(slots, {{"self_attention.q_layernorm", norm}, {"self_attention.k_layernorm", norm}});
}

// With multi-latent attention the input norm is a module of its own.
Slots latent_slots(Slots slots, const char* norm, const char* column, const char* up,
                   const char* latent_norm, const char* down) {
  for (const char* slot : {"linear_qkv", "q_layernorm", "k_layernorm"})
    slots.erase(std::string("self_attention.") + slot);
  return with(slots, {{"input_layernorm", norm},
                      {"self_attention", "MLASelfAttention"},
                      {"self_attention.linear_q_proj", column},
                      {"self_attention.linear_q_down_proj", down},
                      {"self_attention.linear_q_up_proj", up},
                      {"self_attention.linear_kv_down_proj", down},
                      {"self_attention.linear_kv_up_proj", up},
                      {"self_attention.q_layernorm", latent_norm},
                      {"self_attention.kv_layernorm", latent_norm}});
}

TEST(LayerSpecs, TransformerEngineFusesEachNorm) {
  const auto slots = [](Variant variant) {
    return slots_of(transformer_engine_layer_spec(config_of(variant)));
  };
  EXPECT_EQ(slots(Variant::plain), kTransformerEngineSlots);
  EXPECT_EQ(slots(Variant::query_groups), kTransformerEngineSlots);
  EXPECT_EQ(slots(Variant::qk_layernorm), with_head_norms(kTransformerEngineSlots, "TENorm"));
  EXPECT_EQ(slots(Variant::qk_l2_norm), with_head_norms(kTransformerEngineSlots, "L2Norm"));
  EXPECT_EQ(slots(Variant::latent),
            latent_slots(kTransformerEngineSlots, "TENorm", "TEColumnParallelLinear",
                         "TEColumnParallelLinear", "IdentityOp", "TELinear"));
  EXPECT_EQ(slots(Variant::latent_qk_layernorm),
            latent_slots(kTransformerEngineSlots, "TENorm", "TEColumnParallelLinear",
                         "TELayerNormColumnParallelLinear", "IdentityOp", "TELinear"));
  const ModuleSpec spec = transformer_engine_layer_spec(small_gpt_config());
  EXPECT_EQ(spec.module, "TransformerLayer");
  EXPECT_EQ(std::get<std::string>(spec.at("self_attention").params.at("attn_mask_type")), "causal");
  EXPECT_TRUE(spec.sharded_state_dict_keys_map.empty());
}

TEST(LayerSpecs, LocalKeepsNormsApart) {
  const auto slots = [](Variant variant, Normalization normalization = Normalization::LayerNorm) {
    return slots_of(local_layer_spec(config_of(variant, normalization).transformer));
  };
  EXPECT_EQ(slots(Variant::plain), kLocalSlots);
  EXPECT_EQ(slots(Variant::plain, Normalization::RMSNorm),
            with(kLocalSlots, {{"input_layernorm", "WrappedTorchNorm"},
                               {"pre_mlp_layernorm", "WrappedTorchNorm"}}));
  EXPECT_EQ(slots(Variant::qk_layernorm), with_head_norms(kLocalSlots, "FusedLayerNorm"));
  EXPECT_EQ(slots(Variant::qk_l2_norm), with_head_norms(kLocalSlots, "L2Norm"));
  EXPECT_EQ(slots(Variant::latent_qk_layernorm),
            latent_slots(kLocalSlots, "FusedLayerNorm", "ColumnParallelLinear",
                         "ColumnParallelLinear", "FusedLayerNorm", "ReplicatedLinear"));
  EXPECT_EQ(local_layer_spec(config_of(Variant::plain).transformer).sharded_state_dict_keys_map,
            (std::map<std::string, std::string>{
                {"input_layernorm.", "self_attention.linear_qkv.layer_norm_"},
                {"pre_mlp_layernorm.", "mlp.linear_fc1.layer_norm_"}}));
  EXPECT_EQ(local_layer_spec(config_of(Variant::latent_qk_layernorm).transformer)
                .sharded_state_dict_keys_map,
            (std::map<std::string, std::string>{
                {"pre_mlp_layernorm.", "mlp.linear_fc1.layer_norm_"},
                {"self_attention.q_layernorm.", "self_attention.linear_q_up_proj.layer_norm_"},
                {"self_attention.kv_layernorm.", "self_attention.linear_kv_up_proj.layer_norm_"}}));
}

TEST(LayerSpecs, ModeloptIsABlockOfSeparateModules) {
  const auto slots = [](Variant variant) {
    const TransformerBlockSubmodules block = modelopt_transformer_layer_spec(config_of(variant));
    EXPECT_EQ(block.layer_specs.size(), 2);
    EXPECT_EQ(block.layer_specs[0], block.layer_specs[1]);
    EXPECT_EQ(block.layer_norm.module, "Norm");
    EXPECT_FALSE(block.layer_specs[0].sharded_state_dict_keys_map.empty());
    return slots_of(block.layer_specs[0]);
  };
  EXPECT_EQ(slots(Variant::plain), kModeloptSlots);
  EXPECT_EQ(slots(Variant::qk_layernorm), with_head_norms(kModeloptSlots, "Norm"));
  EXPECT_EQ(slots(Variant::qk_l2_norm), with_head_norms(kModeloptSlots, "L2Norm"));
  EXPECT_EQ(slots(Variant::latent_qk_layernorm),
            latent_slots(kModeloptSlots, "Norm", "ColumnParallelLinear", "ColumnParallelLinear",
                         "Norm", "ReplicatedLinear"));
  EXPECT_THAT(
      [] { modelopt_transformer_layer_spec(small_gpt_config(), {}, {}, "fp8_real_quant"); },
      ThrowsMessage<Error>(HasSubstr("Expected real_quant_cfg None, but got 'fp8_real_quant'")));
}

// The columns of layers with experts. The norm before them is a module of its own, since router,
// experts and shared experts read it.
TEST(LayerSpecs, ExpertsTakeTheMlpSlot) {
  GPTModelConfig config = small_gpt_config();
  MoeConfig& moe = config.transformer.moe;
  moe.num_moe_experts = 4;
  moe.moe_shared_expert_intermediate_size = 8;
  const auto experts = [](Slots slots, const char* norm, const char* grouped, const char* column,
                          const char* row) {
    slots.erase("mlp.linear_fc1");
    slots.erase("mlp.linear_fc2");
    return with(slots, {{"pre_mlp_layernorm", norm},
                        {"mlp", "MoELayer"},
                        {"mlp.router", "TopKRouter"},
                        {"mlp.experts", grouped},
                        {"mlp.shared_experts", "SharedExpertMLP"},
                        {"mlp.shared_experts.linear_fc1", column},
                        {"mlp.shared_experts.linear_fc2", row}});
  };
  for (const bool grouped : {false, true}) {
    moe.moe_grouped_gemm = grouped;
    const char* const mlp = grouped ? "TEGroupedMLP" : "SequentialMLP";
    EXPECT_EQ(slots_of(transformer_engine_layer_spec(config)),
              experts(kTransformerEngineSlots, "TENorm", mlp, "TEColumnParallelLinear",
                      "TERowParallelLinear"));
    EXPECT_EQ(
        slots_of(local_layer_spec(config.transformer)),
        experts(kLocalSlots, "FusedLayerNorm", mlp, "ColumnParallelLinear", "RowParallelLinear"));
    EXPECT_EQ(slots_of(modelopt_transformer_layer_spec(config).layer_specs[0]),
              experts(kModeloptSlots, "Norm", "SequentialMLP", "ColumnParallelLinear",
                      "RowParallelLinear"));
  }
  EXPECT_EQ(
      transformer_engine_full_layer_spec(config.transformer).layer_specs[0],
      (ModuleSpec{.module = "TETransformerLayerAutocast", .params = {{"has_experts", true}}}));
}

// Arbitrary masks by the flag; by default unless the context is split.
TEST(LayerSpecs, ModeloptMasks) {
  const auto mask_type = [](std::optional<bool> arbitrary, int64_t context_parallel_size) {
    GPTModelConfig config = small_gpt_config();
    config.use_arbitrary_attention_mask = arbitrary;
    config.transformer.context_parallel_size = context_parallel_size;
    const ModuleSpec layer = modelopt_transformer_layer_spec(config).layer_specs.at(0);
    return std::get<std::string>(layer.at("self_attention").params.at("attn_mask_type"));
  };
  EXPECT_EQ(mask_type({}, 1), "arbitrary");
  EXPECT_EQ(mask_type({}, 2), "causal");
  EXPECT_EQ(mask_type(false, 1), "causal");
  EXPECT_THAT([&] { mask_type(true, 2); },
              ThrowsMessage<Error>(HasSubstr("Expected context_parallel_size 1 with "
                                             "use_arbitrary_attention_mask, but got 2")));
}

TEST(LayerSpecs, MasksMustBeCausalUnlessTheSpecSaysArbitrary) {
  const at::NoGradGuard no_grad;
  GPTModelInput input = token_input(2, 4);
  const auto logits = [&](const char* spec) {
    GPTModelConfig config = small_gpt_config();
    config.transformer_layer_spec = spec;
    return build_gpt(config)->forward(input, evaluation_context(2, 4));
  };
  const at::Tensor causal = logits("modelopt_transformer_layer_spec");
  input.attention_mask = at::zeros({1, 1, 4, 4}, at::kBool);
  EXPECT_FALSE(at::allclose(logits("modelopt_transformer_layer_spec"), causal));
  for (const char* spec : {"transformer_engine_layer_spec", "local_layer_spec",
                           "transformer_engine_full_layer_spec"}) {
    EXPECT_THAT([&] { logits(spec); },
                ThrowsMessage<Error>(HasSubstr("an attention mask that hides all later keys")))
        << spec;
  }
  input.attention_mask = at::ones({4, 4}, at::kBool).triu(1).view({1, 1, 4, 4});
  EXPECT_TRUE(at::allclose(logits("transformer_engine_layer_spec"), causal, 1e-5, 1e-6));
}

TEST(LayerSpecs, FullLayerIsABlockOfTheChunk) {
  GPTModelConfig config = small_gpt_config();
  TransformerBlockSubmodules block = transformer_engine_full_layer_spec(config.transformer);
  const ModuleSpec whole_layer{.module = "TETransformerLayerAutocast"};
  EXPECT_EQ(block.layer_specs, std::vector<ModuleSpec>(2, whole_layer));
  EXPECT_EQ(block.layer_norm.module, "FusedLayerNorm");
  config.transformer.num_layers = 5;
  config.transformer.pipeline_model_parallel_size = 2;
  config.transformer.pipeline.num_layers_in_first_pipeline_stage = 2;
  const auto layers = [&](std::optional<int64_t> pp_rank) {
    return transformer_engine_full_layer_spec(config.transformer, {}, pp_rank).layer_specs.size();
  };
  EXPECT_EQ(layers(0), 2);
  EXPECT_EQ(layers(1), 3);
  EXPECT_EQ(layers({}), 5);
  EXPECT_EQ(modelopt_transformer_layer_spec(config, {}, 1).layer_specs.size(), 3);
  EXPECT_THAT([&] { layers(2); }, ThrowsMessage<Error>(HasSubstr("Expected pp_rank below 2")));
  config.transformer.num_layers = 4;
  config.transformer.pipeline.num_layers_in_first_pipeline_stage = {};
  config.transformer.pipeline.virtual_pipeline_model_parallel_size = 2;
  EXPECT_THAT([&] { layers(1); },
              ThrowsMessage<Error>(HasSubstr("Expected vp_stage, since a rank has 2 chunks")));
}

// A spec of the caller's own must have what the fields beside it ask for.
TEST(LayerSpecs, AnOwnSpecHasWhatTheFieldsAskFor) {
  const GPTModelConfig plain = small_gpt_config();
  const ModuleSpec fused = transformer_engine_layer_spec(plain);
  const ModuleSpec separate = local_layer_spec(plain.transformer);
  struct Case {
    const ModuleSpec& spec;
    std::function<void(GPTModelConfig&)> ask;
    const char* problem;
  };
  const Case cases[] = {
      {separate, [](auto& c) { c.use_arbitrary_attention_mask = true; },
       "Expected a spec with attn_mask_type arbitrary with use_arbitrary_attention_mask"},
      {fused, [](auto& c) { c.restore_modelopt_state = true; },
       "with restore_modelopt_state, but got fused modules"},
      {fused, [](auto& c) { c.transformer.transformer_impl = TransformerImpl::local; },
       "with transformer_impl=local, but got fused modules"},
      {fused, [](auto& c) { c.transformer.qk_layernorm = true; },
       "Expected a spec with q_layernorm with qk_layernorm"},
      {fused, [](auto& c) { c.use_transformer_engine_op_fuser = true; },
       "Expected a spec with TEFusedMLP"},
      {fused, [](auto& c) { c.transformer.moe.num_moe_experts = 4; },
       "Expected a spec with MoELayer with num_moe_experts, but got MLP"}};
  for (const Case& test : cases) {
    SCOPED_TRACE(test.problem);
    GPTModelConfig config = plain;
    config.transformer_layer_spec = test.spec;
    EXPECT_NO_THROW(config.finalize());
    test.ask(config);
    EXPECT_THAT([&] { config.finalize(); }, ThrowsMessage<Error>(HasSubstr(test.problem)));
  }
  GPTModelConfig config = plain;
  config.transformer.moe.num_moe_experts = 4;
  config.use_transformer_engine_op_fuser = true;
  EXPECT_THAT([&] { config.finalize(); },
              ThrowsMessage<Error>(HasSubstr("Expected a dense layer with "
                                             "use_transformer_engine_op_fuser")));
}

TEST(LayerSpecs, DefaultChoosesByTheFlags) {
  GPTModelConfig config = small_gpt_config();
  EXPECT_EQ(std::get<ModuleSpec>(default_layer_spec(config)),
            transformer_engine_layer_spec(config));
  config.transformer.transformer_impl = TransformerImpl::local;
  EXPECT_EQ(std::get<ModuleSpec>(default_layer_spec(config)), local_layer_spec(config.transformer));
  config.use_transformer_engine_full_layer_spec = true;
  EXPECT_EQ(std::get<TransformerBlockSubmodules>(default_layer_spec(config)),
            transformer_engine_full_layer_spec(config.transformer));
  config.restore_modelopt_state = true;
  EXPECT_EQ(std::get<TransformerBlockSubmodules>(default_layer_spec(config)),
            modelopt_transformer_layer_spec(config));
}

TEST(LayerSpecs, FunctionsAreRegisteredUnderTheirNames) {
  EXPECT_EQ(LayerSpecSource(transformer_engine_layer_spec).name(), "transformer_engine_layer_spec");
  EXPECT_EQ(LayerSpecSource(transformer_engine_full_layer_spec).name(),
            "transformer_engine_full_layer_spec");
  EXPECT_EQ(LayerSpecSource(modelopt_transformer_layer_spec).name(),
            "modelopt_transformer_layer_spec");
  EXPECT_EQ(LayerSpecSource(local_layer_spec).name(), "local_layer_spec");
  EXPECT_EQ(LayerSpecSource(default_layer_spec).name(), "default_layer_spec");
  const GPTModelConfig config = small_gpt_config();
  for (const char* name :
       {"transformer_engine_layer_spec", "transformer_engine_full_layer_spec", "local_layer_spec",
        "modelopt_transformer_layer_spec", "default_layer_spec"}) {
    EXPECT_NO_THROW(LayerSpecSource(name).resolve(config, {}, 0)) << name;
  }
}

TEST(LayerSpecs, MtpWrapsTheLastDecoderLayer) {
  GPTModelConfig config = small_gpt_config();
  const ModuleSpec layer = transformer_engine_layer_spec(config);
  EXPECT_EQ(mtp_block_spec(config, layer), std::nullopt);
  config.transformer.mtp.mtp_num_layers = 2;
  const ModuleSpec block = mtp_block_spec(config, layer).value();
  EXPECT_EQ(block.module, "MultiTokenPredictionBlock");
  EXPECT_EQ(block.submodules.size(), 2);
  const ModuleSpec& first = block.at("layer_specs[0]");
  EXPECT_EQ(first, block.at("layer_specs[1]"));
  EXPECT_EQ(first.module, "MultiTokenPredictionLayer");
  EXPECT_EQ(first.at("mtp_model_layer"), layer);
  for (const char* slot : {"enorm", "hnorm", "layer_norm"})
    EXPECT_EQ(first.at(slot).module, "TENorm");
  EXPECT_EQ(first.at("eh_proj").module, "TEColumnParallelLinear");
  config.transformer.mtp.mtp_use_repeated_layer = true;
  EXPECT_EQ(mtp_block_spec(config, layer)->submodules.size(), 1);
  // The last layer of a block; an empty block has the default's.
  const ModuleSpec local = local_layer_spec(config.transformer);
  const TransformerBlockSubmodules mixed{{layer, local}, {.module = "TENorm"}};
  EXPECT_EQ(mtp_block_spec(config, mixed)->at("layer_specs[0].mtp_model_layer"), local);
  EXPECT_EQ(
      mtp_block_spec(config, TransformerBlockSubmodules{})->at("layer_specs[0].mtp_model_layer"),
      layer);
  // Only on the stage with MTP layers.
  config.transformer.pipeline_model_parallel_size = 2;
  EXPECT_EQ(mtp_block_spec(config, layer, {}, 0), std::nullopt);
  EXPECT_TRUE(mtp_block_spec(config, layer, {}, 1).has_value());
  EXPECT_THAT([&] { mtp_block_spec(config, layer); },
              ThrowsMessage<Error>(HasSubstr("Expected pp_rank for the MTP layers")));
}

// The class of the built module in a slot of layer 0.
template <typename Class>
void expect_class(const GPTModel& model, const std::string& slot) {
  const auto module = model.find_module("decoder.layers.0" + slot);
  ASSERT_NE(module, nullptr) << slot;
  EXPECT_EQ(typeid(*module), typeid(Class)) << slot;
}

TEST(BuiltLayers, HaveTheClassesOfTheirSpecs) {
  const auto model_of = [](const char* spec, Variant variant) {
    GPTModelConfig config = config_of(variant);
    config.transformer_layer_spec = spec;
    return build_gpt_model(config, ProcessGroupCollection::single_rank(), at::kMeta);
  };
  const auto fused = model_of("transformer_engine_layer_spec", Variant::qk_layernorm);
  expect_class<TransformerLayer>(*fused, "");
  expect_class<SelfAttention>(*fused, ".self_attention");
  expect_class<LayerNormColumnParallelLinear>(*fused, ".self_attention.linear_qkv");
  expect_class<DotProductAttention>(*fused, ".self_attention.core_attention");
  expect_class<RowParallelLinear>(*fused, ".self_attention.linear_proj");
  expect_class<WeightedNorm>(*fused, ".self_attention.q_layernorm");
  expect_class<WeightedNorm>(*fused, ".self_attention.k_layernorm");
  expect_class<MLP>(*fused, ".mlp");
  expect_class<LayerNormColumnParallelLinear>(*fused, ".mlp.linear_fc1");
  expect_class<RowParallelLinear>(*fused, ".mlp.linear_fc2");
  EXPECT_EQ(fused->find_module("decoder.layers.0.input_layernorm"), nullptr);
  EXPECT_EQ(fused->find_module("decoder.layers.0.pre_mlp_layernorm"), nullptr);
  for (const char* spec : {"local_layer_spec", "modelopt_transformer_layer_spec"}) {
    const auto separate = model_of(spec, Variant::qk_l2_norm);
    expect_class<WeightedNorm>(*separate, ".input_layernorm");
    expect_class<ColumnParallelLinear>(*separate, ".self_attention.linear_qkv");
    expect_class<L2Norm>(*separate, ".self_attention.q_layernorm");
    expect_class<WeightedNorm>(*separate, ".pre_mlp_layernorm");
    expect_class<ColumnParallelLinear>(*separate, ".mlp.linear_fc1");
  }
  const auto latent = model_of("transformer_engine_layer_spec", Variant::latent_qk_layernorm);
  expect_class<WeightedNorm>(*latent, ".input_layernorm");
  expect_class<MLASelfAttention>(*latent, ".self_attention");
  expect_class<ReplicatedLinear>(*latent, ".self_attention.linear_q_down_proj");
  expect_class<LayerNormColumnParallelLinear>(*latent, ".self_attention.linear_q_up_proj");
  expect_class<LayerNormColumnParallelLinear>(*latent, ".self_attention.linear_kv_up_proj");
  EXPECT_EQ(latent->find_module("decoder.layers.0.self_attention.kv_layernorm"), nullptr);
  const auto whole = model_of("transformer_engine_full_layer_spec", Variant::plain);
  expect_class<TETransformerLayerAutocast>(*whole, "");
  expect_class<LayerNormColumnParallelLinear>(*whole, ".self_attention.linear_qkv");
}

template <typename Linear>
void expect_overlap(const GPTModel& model, const std::string& path, const LinearOverlap& overlap) {
  const auto linear = std::dynamic_pointer_cast<Linear>(model.find_module(path));
  ASSERT_NE(linear, nullptr) << path;
  EXPECT_EQ(linear->overlap(), overlap) << path;
}

// tp_comm_overlap_cfg reaches the linear layers that it names.
TEST(BuiltLayers, HaveTheOverlapsOfTheirNames) {
  GPTModelConfig config = small_gpt_config();
  TransformerConfig& t = config.transformer;
  t.tensor_model_parallel_size = 2;
  t.sequence_parallel = t.tp_comm_overlap = true;
  config.tp_comm_overlap_cfg.entries = {{"qkv_fprop", {.method = {}, .num_splits = 2}},
                                        {"proj_fprop", {.method = "none", .num_splits = {}}},
                                        {"fc1_dgrad", {.method = "bulk", .num_splits = {}}},
                                        {"fc2_dgrad", {.method = {}, .num_splits = 1}}};
  const TpOverlaps overlaps = tp_overlaps(config.tp_comm_overlap_cfg);
  t.num_layers = 2;
  t.moe.num_moe_experts = 2;
  t.moe.moe_layer_freq = {0, 1};
  t.moe.moe_shared_expert_intermediate_size = 8;
  run_thread_world(2, [&](RankContext& rank) {
    const auto model = build_gpt_model(config, make_model_groups(t, rank), at::kMeta);
    const std::string dense = "decoder.layers.0.", with_experts = "decoder.layers.1.";
    expect_overlap<LayerNormColumnParallelLinear>(*model, dense + "self_attention.linear_qkv",
                                                  overlaps.at("qkv"));
    expect_overlap<RowParallelLinear>(*model, dense + "self_attention.linear_proj",
                                      overlaps.at("proj"));
    expect_overlap<LayerNormColumnParallelLinear>(*model, dense + "mlp.linear_fc1",
                                                  overlaps.at("fc1"));
    expect_overlap<RowParallelLinear>(*model, dense + "mlp.linear_fc2", overlaps.at("fc2"));
    expect_overlap<ColumnParallelLinear>(*model, with_experts + "mlp.shared_experts.linear_fc1",
                                         overlaps.at("fc1"));
    expect_overlap<RowParallelLinear>(*model, with_experts + "mlp.shared_experts.linear_fc2",
                                      overlaps.at("fc2"));
  });
}

// An MLP that adds a constant of its own per layer.
class NumberedMLP : public FeedForward {
 public:
  explicit NumberedMLP(const BuildArguments& arguments)
      : number_(arguments.layer_number),
        step_(std::get<double>(arguments.spec.params.at("step"))) {}
  OutputAndBias forward(const at::Tensor& hidden_states, const ForwardContext&) const override {
    return {at::full_like(hidden_states, step_ * double(number_)), at::Tensor()};
  }

 private:
  int64_t number_;
  double step_;
};

TEST(BuiltLayers, TakeAnyFeedForwardModuleAndAListOfLayers) {
  feed_forward_modules().add("NumberedMLP", {.build =
                                                 [](const BuildArguments& arguments) {
                                                   return std::make_shared<NumberedMLP>(arguments);
                                                 },
                                             .slots = {},
                                             .params = {"step"}});
  GPTModelConfig config = small_gpt_config();
  config.transformer.num_layers = 4;
  ModuleSpec numbered = transformer_engine_layer_spec(config);
  numbered.submodules["mlp"] = {.module = "NumberedMLP", .params = {{"step", 2.0}}};
  const ModuleSpec plain = transformer_engine_layer_spec(config);
  const TransformerBlockSubmodules layers{{plain, numbered, numbered, plain}, {.module = "TENorm"}};
  config.transformer_layer_spec = layers;
  const auto model = build_gpt(config);
  EXPECT_NE(model->find_module("decoder.layers.0.mlp.linear_fc1"), nullptr);
  EXPECT_EQ(model->find_module("decoder.layers.1.mlp.linear_fc1"), nullptr);
  EXPECT_NE(model->find_module("decoder.layers.3.mlp.linear_fc1"), nullptr);
  // Each pipeline stage takes its own layers of the model's list; layer numbers are global.
  const PipelineStage last{.rank = 1,
                           .size = 2,
                           .pre_process = false,
                           .post_process = true,
                           .first_layer = 2,
                           .num_layers = 2};
  const LayerOptions options{at::TensorOptions(at::kFloat),
                             ProcessGroupCollection::single_rank().tp};
  TransformerBlock block(config.transformer, layers, last, options);
  const at::NoGradGuard no_grad;
  const at::Tensor x = at::zeros({4, 1, 12});
  EXPECT_TRUE(
      at::equal(block.layers()[0]->forward_mlp(x, evaluation_context(1, 4)), at::full_like(x, 6)));
  EXPECT_NE(block.find_module("layers.3.mlp.linear_fc1"), nullptr);
  EXPECT_THAT(
      [&] {
        TransformerBlock(config.transformer,
                         TransformerBlockSubmodules{{plain, plain, plain}, {.module = "TENorm"}},
                         last, options);
      },
      ThrowsMessage<Error>(HasSubstr("Expected a block spec of 2 layers, as this chunk has, or of "
                                     "all 4 layers of the model, but got 3")));
}

TEST(BuiltLayers, RefuseUnknownModulesSlotsAndParameters) {
  const auto error_of = [](const std::function<void(ModuleSpec&)>& change) -> std::string {
    GPTModelConfig config = small_gpt_config();
    ModuleSpec spec = transformer_engine_layer_spec(config);
    change(spec);
    config.transformer_layer_spec = spec;
    try {
      build_gpt(config);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(error_of([](ModuleSpec& s) { s.module = "TransformerLayr"; }),
              HasSubstr("Expected a registered module for a transformer layer"));
  EXPECT_THAT(error_of([](ModuleSpec& s) { s.module = "TransformerLayr"; }),
              HasSubstr("but got 'TransformerLayr'; the nearest is TransformerLayer"));
  EXPECT_THAT(error_of([](ModuleSpec& s) {
                s.submodules["mlp"].submodules["linear_fc2"].module = "ColumnParallelLinear";
              }),
              HasSubstr("a registered module for a row-parallel linear layer"));
  EXPECT_THAT(error_of([](ModuleSpec& s) { s.submodules["mlp"].submodules.erase("linear_fc1"); }),
              HasSubstr("but got 'IdentityOp'"));
  EXPECT_THAT(error_of([](ModuleSpec& s) { s.submodules["input_layrnorm"] = {}; }),
              HasSubstr("but got 'input_layrnorm'; the nearest is input_layernorm"));
  EXPECT_EQ(error_of([](ModuleSpec& s) { s.submodules["mlp"].params["x"] = true; }),
            "Expected a parameter of MLP (it has none), but got 'x'");
  EXPECT_THAT(error_of([](ModuleSpec& s) { s.submodules["input_layernorm"].params["x"] = true; }),
              HasSubstr("a parameter of IdentityOp (it has none)"));
  EXPECT_THAT(error_of([](ModuleSpec& s) {
                s.submodules["self_attention"].params["attn_mask_type"] = std::string("padding");
              }),
              HasSubstr("Expected attn_mask_type causal or arbitrary for SelfAttention, but got "
                        "'padding'"));
  EXPECT_THAT(error_of([](ModuleSpec& s) { s.submodules["mlp_bda"].module = "IdentityFuncOp"; }),
              HasSubstr("Expected get_bias_dropout_add in the slot mlp_bda"));
  GPTModelConfig rms = config_of(Variant::plain, Normalization::RMSNorm);
  ModuleSpec spec = local_layer_spec(rms.transformer);
  spec.submodules["input_layernorm"].module = "FusedLayerNorm";
  rms.transformer_layer_spec = spec;
  EXPECT_THAT([&] { build_gpt(rms); },
              ThrowsMessage<Error>(HasSubstr("normalization LayerNorm with FusedLayerNorm")));
}

}  // namespace
}  // namespace megatron
