// The floating-point operations that a model needs, by which throughput is told.
#pragma once

#include "megatron/config/model/gpt_model_config.h"

namespace megatron {

// Forward and backward of `sequences` whole sequences (Megatron training.py,
// num_floating_point_operations): 6 per token and weight of the matrices (embedding lookup
// excluded, padded output layer included), and 3 s^2 n (d + dv) a layer and sequence for the causal
// half of attention's two products (d features of a head's query, dv of its value). Each depth of
// multi-token prediction counts as one more layer, its projection and the output layer once more.
double model_flops(const GPTModelConfig& config, int64_t sequences);

}  // namespace megatron
