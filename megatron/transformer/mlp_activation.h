// The activation of a model's MLPs, as its configuration says.
#pragma once

#include "megatron/config/model/transformer_config.h"
#include "megatron/ops/activation.h"

namespace megatron {

// Throws Error for squared_relu with a gated linear unit, and silu without one.
ActivationOptions mlp_activation(const TransformerConfig& config);

}  // namespace megatron
