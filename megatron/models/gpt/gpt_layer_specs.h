// Which modules a GPT layer is made of.
#pragma once

#include "megatron/transformer/transformer_layer.h"

namespace megatron {

// Our own modules throughout (Megatron's local spec, by its names).
TransformerLayerSubmodules gpt_layer_local_spec(const TransformerConfig& config);

}  // namespace megatron
