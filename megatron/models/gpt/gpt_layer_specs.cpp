#include "megatron/models/gpt/gpt_layer_specs.h"

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/transformer/layer_specs.h"
#include "megatron/transformer/multi_token_prediction.h"

namespace megatron {
namespace {

// The chunk of a pipeline rank. Throws Error if the layout has no such chunk.
PipelineStage stage_of(const TransformerConfig& config, std::optional<int64_t> vp_stage,
                       int64_t pp_rank) {
  const PipelineLayout layout = PipelineLayout::of(config);
  check(vp_stage || layout.chunks() == 1,
        "Expected vp_stage, since a rank has {} chunks, but got none", layout.chunks());
  const int64_t chunk = vp_stage.value_or(0);
  check(pp_rank >= 0 && pp_rank < layout.stages() && chunk >= 0 && chunk < layout.chunks(),
        "Expected pp_rank below {} and vp_stage below {}, but got {} and {}", layout.stages(),
        layout.chunks(), pp_rank, chunk);
  return PipelineStage::of(layout, static_cast<int>(pp_rank), static_cast<int>(chunk));
}

// The layers of the chunk, or of the model if the rank is not known. layer(has_experts) gives the
// spec of a dense layer or of one with experts.
template <typename Layer>
TransformerBlockSubmodules block_of(const TransformerConfig& config,
                                    std::optional<int64_t> vp_stage, std::optional<int64_t> pp_rank,
                                    const std::string& norm, const Layer& layer) {
  int64_t first = 0, count = config.num_layers;
  if (pp_rank) {
    const PipelineStage stage = stage_of(config, vp_stage, *pp_rank);
    first = stage.first_layer;
    count = stage.num_layers;
  }
  TransformerBlockSubmodules block{.layer_specs = {}, .layer_norm = {.module = norm}};
  for (int64_t i = first; i < first + count; ++i)
    block.layer_specs.push_back(layer(config.moe.is_moe_layer(i + 1)));
  return block;
}

// Whether all layers are alike: dense, or with experts.
bool has_one_kind_of_layer(const TransformerConfig& config) {
  for (int64_t number = 2; number <= config.num_layers; ++number) {
    if (config.moe.is_moe_layer(number) != config.moe.is_moe_layer(1)) return false;
  }
  return true;
}

// For functions that give one spec for all layers.
bool all_layers_have_experts(const TransformerConfig& config, const char* function) {
  check(
      has_one_kind_of_layer(config),
      "Expected the same kind of layer everywhere for {}, which gives one spec, but got dense "
      "layers and layers with experts (moe_layer_freq {}); its name, or default_layer_spec, gives "
      "a spec for each layer",
      function, fmt::join(config.moe.moe_layer_freq, ","));
  return config.moe.is_moe_layer(1);
}

ModuleSpec transformer_engine_layer(const GPTModelConfig& config, bool has_experts) {
  ModuleSpec layer = transformer_layer_spec(config.transformer, transformer_engine_backend(),
                                            "causal", has_experts);
  if (config.use_transformer_engine_op_fuser && !has_experts)
    layer.submodules["mlp"].module = "TEFusedMLP";
  return layer;
}

ModuleSpec local_layer(const TransformerConfig& config, bool has_experts) {
  return transformer_layer_spec(config, local_backend(config), "causal", has_experts);
}

// One spec where all layers are alike, else one for each.
LayerSpec transformer_engine_layers(const GPTModelConfig& config, std::optional<int64_t> vp_stage,
                                    std::optional<int64_t> pp_rank) {
  if (has_one_kind_of_layer(config.transformer)) return transformer_engine_layer_spec(config);
  return block_of(config.transformer, vp_stage, pp_rank, transformer_engine_backend().norm,
                  [&](bool has_experts) { return transformer_engine_layer(config, has_experts); });
}

LayerSpec local_layers(const TransformerConfig& config, std::optional<int64_t> vp_stage,
                       std::optional<int64_t> pp_rank) {
  if (has_one_kind_of_layer(config)) return local_layer_spec(config);
  return block_of(config, vp_stage, pp_rank, local_backend(config).norm,
                  [&](bool has_experts) { return local_layer(config, has_experts); });
}

// The layer that MTP layers wrap.
ModuleSpec last_layer(const GPTModelConfig& config, const LayerSpec& spec) {
  if (const auto* layer = std::get_if<ModuleSpec>(&spec)) return *layer;
  const auto& layers = std::get<TransformerBlockSubmodules>(spec).layer_specs;
  if (!layers.empty()) return layers.back();
  const LayerSpec fallback = default_layer_spec(config);
  if (const auto* layer = std::get_if<ModuleSpec>(&fallback)) return *layer;
  return std::get<TransformerBlockSubmodules>(fallback).layer_specs.back();
}

const bool kRegistered = [] {
  register_layer_spec_function("transformer_engine_layer_spec",
                               layer_spec_function(&transformer_engine_layers),
                               reinterpret_cast<const void*>(&transformer_engine_layer_spec));
  register_layer_spec("transformer_engine_full_layer_spec", &transformer_engine_full_layer_spec);
  register_layer_spec_function("local_layer_spec", layer_spec_function(&local_layers),
                               reinterpret_cast<const void*>(&local_layer_spec));
  register_layer_spec("modelopt_transformer_layer_spec", &modelopt_transformer_layer_spec);
  register_layer_spec("default_layer_spec", &default_layer_spec);
  return true;
}();

}  // namespace

ModuleSpec transformer_engine_layer_spec(const GPTModelConfig& config) {
  return transformer_engine_layer(
      config, all_layers_have_experts(config.transformer, "transformer_engine_layer_spec"));
}

TransformerBlockSubmodules transformer_engine_full_layer_spec(const TransformerConfig& config,
                                                              std::optional<int64_t> vp_stage,
                                                              std::optional<int64_t> pp_rank) {
  return block_of(config, vp_stage, pp_rank, local_backend(config).norm, [](bool has_experts) {
    ModuleSpec layer{.module = "TETransformerLayerAutocast"};
    if (has_experts) layer.params = {{"has_experts", true}};
    return layer;
  });
}

ModuleSpec local_layer_spec(const TransformerConfig& config) {
  return local_layer(config, all_layers_have_experts(config, "local_layer_spec"));
}

TransformerBlockSubmodules modelopt_transformer_layer_spec(const GPTModelConfig& config,
                                                           std::optional<int64_t> vp_stage,
                                                           std::optional<int64_t> pp_rank,
                                                           const std::string& real_quant_cfg) {
  check(real_quant_cfg == "None",
        "Expected real_quant_cfg None, but got '{}'; weights of few bits are not supported in this "
        "version",
        real_quant_cfg);
  const int64_t context_parallel_size = config.transformer.context_parallel_size;
  const bool arbitrary = config.use_arbitrary_attention_mask.value_or(context_parallel_size == 1);
  check(!arbitrary || context_parallel_size == 1,
        "Expected context_parallel_size 1 with use_arbitrary_attention_mask, but got {}; split "
        "sequences have causal masks: leave use_arbitrary_attention_mask out",
        context_parallel_size);
  return block_of(config.transformer, vp_stage, pp_rank, modelopt_backend().norm,
                  [&](bool has_experts) {
                    return transformer_layer_spec(config.transformer, modelopt_backend(),
                                                  arbitrary ? "arbitrary" : "causal", has_experts);
                  });
}

LayerSpec default_layer_spec(const GPTModelConfig& config, std::optional<int64_t> vp_stage,
                             std::optional<int64_t> pp_rank) {
  if (config.restore_modelopt_state)
    return modelopt_transformer_layer_spec(config, vp_stage, pp_rank);
  if (config.use_transformer_engine_full_layer_spec)
    return transformer_engine_full_layer_spec(config.transformer, vp_stage, pp_rank);
  if (config.transformer.transformer_impl == TransformerImpl::local)
    return local_layers(config.transformer, vp_stage, pp_rank);
  return transformer_engine_layers(config, vp_stage, pp_rank);
}

std::optional<ModuleSpec> mtp_block_spec(const GPTModelConfig& config,
                                         const LayerSpec& transformer_layer_spec,
                                         std::optional<int64_t> vp_stage,
                                         std::optional<int64_t> pp_rank) {
  if (config.transformer.mtp.mtp_num_layers == 0) return std::nullopt;
  const int64_t stages = config.transformer.pipeline_model_parallel_size;
  check(pp_rank || stages == 1,
        "Expected pp_rank for the MTP layers of a model with pipeline_model_parallel_size {}, but "
        "got none",
        stages);
  return mtp_block_spec(config, transformer_layer_spec,
                        stage_of(config.transformer, vp_stage, pp_rank.value_or(0)));
}

std::optional<ModuleSpec> mtp_block_spec(const GPTModelConfig& config,
                                         const LayerSpec& transformer_layer_spec,
                                         const PipelineStage& stage) {
  if (!stage.has_mtp_layers(config.transformer)) return std::nullopt;
  const SpecBackend backend = config.transformer.transformer_impl == TransformerImpl::local
                                  ? local_backend(config.transformer)
                                  : transformer_engine_backend();
  const ModuleSpec layer =
      multi_token_prediction_layer_spec(last_layer(config, transformer_layer_spec), backend);
  const MultiTokenPredictionConfig& mtp = config.transformer.mtp;
  ModuleSpec block{.module = kMultiTokenPredictionBlock};
  for (int64_t i = 0; i < (mtp.mtp_use_repeated_layer ? 1 : mtp.mtp_num_layers); ++i)
    block.submodules.emplace(mtp_layer_slot(i), layer);
  return block;
}

LayerSpec resolve_layer_spec(const GPTModelConfig& config, const PipelineStage& stage) {
  std::optional<int64_t> vp_stage;
  if (PipelineLayout::of(config.transformer).chunks() > 1) vp_stage = stage.chunk;
  LayerSpec spec = config.transformer_layer_spec.resolve(config, vp_stage, stage.rank);
  // As in Megatron: the backend replaces the core attention of one spec for all layers, not of a
  // block spec.
  auto* layer = std::get_if<ModuleSpec>(&spec);
  if (layer == nullptr || config.transformer.attention_backend != AttentionBackend::local)
    return spec;
  const auto attention = layer->submodules.find("self_attention");
  if (attention != layer->submodules.end() &&
      attention->second.submodules.contains("core_attention"))
    attention->second.submodules["core_attention"].module = "DotProductAttention";
  return spec;
}

}  // namespace megatron
