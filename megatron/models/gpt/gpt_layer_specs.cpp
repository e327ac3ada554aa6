#include "megatron/models/gpt/gpt_layer_specs.h"

#include "megatron/base/error.h"
#include "megatron/transformer/layer_specs.h"
#include "megatron/transformer/multi_token_prediction.h"

namespace megatron {
namespace {

// The chunk of a pipeline rank. Throws Error if the layout has no such chunk.
PipelineStage stage_of(const TransformerConfig& config, std::optional<int64_t> vp_stage,
                       int64_t pp_rank) {
  const PipelineLayout layout = PipelineLayout::of(config);
  const int64_t chunk = vp_stage.value_or(0);
  check(pp_rank >= 0 && pp_rank < layout.stages() && chunk >= 0 && chunk < layout.chunks(),
        "Expected pp_rank below {} and vp_stage below {}, but got {} and {}", layout.stages(),
        layout.chunks(), pp_rank, chunk);
  return PipelineStage::of(layout, static_cast<int>(pp_rank), static_cast<int>(chunk));
}

// Of the chunk, or of the model if the rank is not known.
int64_t layers_to_build(const TransformerConfig& config, std::optional<int64_t> vp_stage,
                        std::optional<int64_t> pp_rank) {
  return pp_rank ? stage_of(config, vp_stage, *pp_rank).num_layers : config.num_layers;
}

TransformerBlockSubmodules repeated(const ModuleSpec& layer, int64_t layers,
                                    const std::string& norm) {
  return {.layer_specs = std::vector<ModuleSpec>(static_cast<size_t>(layers), layer),
          .layer_norm = {.module = norm}};
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
  register_layer_spec("transformer_engine_layer_spec", &transformer_engine_layer_spec);
  register_layer_spec("transformer_engine_full_layer_spec", &transformer_engine_full_layer_spec);
  register_layer_spec("local_layer_spec", &local_layer_spec);
  register_layer_spec_function(
      "modelopt_transformer_layer_spec",
      layer_spec_function([](const GPTModelConfig& config, std::optional<int64_t> vp_stage,
                             std::optional<int64_t> pp_rank) {
        return modelopt_transformer_layer_spec(config, vp_stage, pp_rank);
      }),
      reinterpret_cast<const void*>(&modelopt_transformer_layer_spec));
  register_layer_spec("default_layer_spec", &default_layer_spec);
  return true;
}();

}  // namespace

ModuleSpec transformer_engine_layer_spec(const GPTModelConfig& config) {
  ModuleSpec layer = transformer_layer_spec(config.transformer, transformer_engine_backend());
  if (config.use_transformer_engine_op_fuser) layer.submodules["mlp"].module = "TEFusedMLP";
  return layer;
}

TransformerBlockSubmodules transformer_engine_full_layer_spec(const TransformerConfig& config,
                                                              std::optional<int64_t> vp_stage,
                                                              std::optional<int64_t> pp_rank) {
  return repeated({.module = "TETransformerLayerAutocast"},
                  layers_to_build(config, vp_stage, pp_rank), local_backend(config).norm);
}

ModuleSpec local_layer_spec(const TransformerConfig& config) {
  return transformer_layer_spec(config, local_backend(config));
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
  return repeated(transformer_layer_spec(config.transformer, modelopt_backend(),
                                         arbitrary ? "arbitrary" : "causal"),
                  layers_to_build(config.transformer, vp_stage, pp_rank), modelopt_backend().norm);
}

LayerSpec default_layer_spec(const GPTModelConfig& config, std::optional<int64_t> vp_stage,
                             std::optional<int64_t> pp_rank) {
  if (config.restore_modelopt_state)
    return modelopt_transformer_layer_spec(config, vp_stage, pp_rank);
  if (config.use_transformer_engine_full_layer_spec)
    return transformer_engine_full_layer_spec(config.transformer, vp_stage, pp_rank);
  if (config.transformer.transformer_impl == TransformerImpl::local)
    return local_layer_spec(config.transformer);
  return transformer_engine_layer_spec(config);
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
  return config.transformer_layer_spec.resolve(config, vp_stage, stage.rank);
}

}  // namespace megatron
