// Layer specs of GPT models.
#pragma once

#include <optional>

#include "megatron/transformer/multi_token_prediction.h"

namespace megatron {

// Unfused modules (Megatron's local spec).
TransformerLayerSubmodules gpt_layer_local_spec(const TransformerConfig& config);

// MTP layers around layers of the local spec; nullopt if mtp_num_layers is 0.
std::optional<MultiTokenPredictionBlockSubmodules> gpt_mtp_block_local_spec(
    const TransformerConfig& config);

}  // namespace megatron
