// Which modules a GPT layer is made of.
#pragma once

#include <optional>

#include "megatron/transformer/multi_token_prediction.h"

namespace megatron {

// Our own modules throughout (Megatron's local spec, by its names).
TransformerLayerSubmodules gpt_layer_local_spec(const TransformerConfig& config);

// Prediction layers around such layers; nothing where mtp_num_layers is 0.
std::optional<MultiTokenPredictionBlockSubmodules> gpt_mtp_block_local_spec(
    const TransformerConfig& config);

}  // namespace megatron
