// Specs of transformer layers: which module stands in which slot, by backend and configuration.
#pragma once

#include "megatron/config/model/module_spec.h"
#include "megatron/config/model/transformer_config.h"

namespace megatron {

// Names of the modules that a backend puts into a layer's slots (Megatron's BackendSpecProvider).
struct SpecBackend {
  std::string norm;
  std::string column_linear, row_linear, replicated_linear;
  std::string norm_column_linear;  // a norm fused with the linear layer after it; empty: none
  std::string core_attention;
  bool grouped_experts = true;  // else one product for each expert, which a quantizer can hook
};

// Separate norms and linears.
SpecBackend local_backend(const TransformerConfig& config);
// The norm fused into the column-parallel linear that consumes it.
SpecBackend transformer_engine_backend();
// Separate norms and linears, for a quantizer.
SpecBackend modelopt_backend();

// A dense layer, or one with experts. attn_mask_type: causal or arbitrary.
ModuleSpec transformer_layer_spec(const TransformerConfig& config, const SpecBackend& backend,
                                  const std::string& attn_mask_type = "causal",
                                  bool has_experts = false);

// An MTP layer around a decoder layer of `layer`.
ModuleSpec multi_token_prediction_layer_spec(const ModuleSpec& layer, const SpecBackend& backend);

}  // namespace megatron
