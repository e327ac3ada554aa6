// The planner computes what a layout holds and reaches without starting ranks: FLOPs, parameters
// and memory by stage, the schedule's bubble, and a picture of it. This file counts model FLOPs,
// the numerator of every reported throughput.
#pragma once

#include "megatron/config/model/gpt_model_config.h"

namespace megatron {

// FLOPs of forward and backward over `sequences` full sequences (Megatron training.py,
// num_floating_point_operations):
// - 6 per token and matrix weight, with the padded output layer and without the embedding lookup;
// - 3 s^2 n (d + dv) per layer and sequence for the causal half of the two attention matmuls (d:
//   query head dimension, dv: value head dimension);
// - for each MTP depth one more layer, its projection, and one more pass through the output layer.
double model_flops(const GPTModelConfig& config, int64_t sequences);

}  // namespace megatron
