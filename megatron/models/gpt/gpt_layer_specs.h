// Layer specs of GPT models. They are registered under their names, for
// GPTModelConfig::transformer_layer_spec.
#pragma once

#include <optional>

#include "megatron/config/model/gpt_model_config.h"
#include "megatron/transformer/pipeline_stage.h"

namespace megatron {

// All functions give layers with experts where moe_layer_freq has them. The two that give one spec for
// all layers throw Error where some layers are dense; under their names they give one for each then.

// A layer whose norms are fused into the linear layers that consume them.
// use_transformer_engine_op_fuser gives an MLP of one operator.
ModuleSpec transformer_engine_layer_spec(const GPTModelConfig& config);

// Whole fused layers under autocast: of a chunk, or of the model if `pp_rank` is not given. Throws
// Error if the pipeline layout does not fit the number of layers.
TransformerBlockSubmodules transformer_engine_full_layer_spec(const TransformerConfig& config,
                                                              std::optional<int64_t> vp_stage = {},
                                                              std::optional<int64_t> pp_rank = {});

// A layer of separate norms and linears.
ModuleSpec local_layer_spec(const TransformerConfig& config);

// Layers of separate norms and linears that a quantizer can hook. Attention masks may be arbitrary
// if use_arbitrary_attention_mask says so (default: if the context parallel size is 1). Layers as
// for transformer_engine_full_layer_spec. Throws Error for arbitrary masks with context parallelism,
// and for a real_quant_cfg other than "None": weights of few bits are not supported.
TransformerBlockSubmodules modelopt_transformer_layer_spec(
    const GPTModelConfig& config, std::optional<int64_t> vp_stage = {},
    std::optional<int64_t> pp_rank = {}, const std::string& real_quant_cfg = "None");

// modelopt_transformer_layer_spec with restore_modelopt_state; else
// transformer_engine_full_layer_spec with use_transformer_engine_full_layer_spec; else
// transformer_engine_layer_spec or local_layer_spec, as transformer_impl says.
LayerSpec default_layer_spec(const GPTModelConfig& config, std::optional<int64_t> vp_stage = {},
                             std::optional<int64_t> pp_rank = {});

// MTP layers around the last decoder layer of `transformer_layer_spec` (of default_layer_spec if
// that has no layers); nullopt without mtp_num_layers, and on chunks without MTP layers. Without
// `pp_rank`, which several pipeline stages require, the model has one stage.
std::optional<ModuleSpec> mtp_block_spec(const GPTModelConfig& config,
                                         const LayerSpec& transformer_layer_spec,
                                         std::optional<int64_t> vp_stage = {},
                                         std::optional<int64_t> pp_rank = {});
std::optional<ModuleSpec> mtp_block_spec(const GPTModelConfig& config,
                                         const LayerSpec& transformer_layer_spec,
                                         const PipelineStage& stage);

// transformer_layer_spec of the configuration for a chunk. With attention_backend local, the core
// attention of a spec for all layers is DotProductAttention, another name of the same module.
LayerSpec resolve_layer_spec(const GPTModelConfig& config, const PipelineStage& stage);

}  // namespace megatron
