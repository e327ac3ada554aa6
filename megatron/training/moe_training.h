// Mixture of experts in a training step: the weight of the routers' losses, the update of their biases
// and the records of the step.
#pragma once

#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/reporting/run_records.h"
#include "megatron/transformer/moe/moe_pass.h"

namespace megatron {

// Moves the expert biases of all routers of the chunks by the sign of the step's load
// (Megatron's _update_router_expert_bias). Collective over the ranks of each pipeline stage.
void update_expert_biases(const GPTModelChunks& chunks);

// The layers with experts of all stages, in order: means over the step's micro-batches, of which
// there are `microbatches` on all data-parallel ranks. The same on every rank. Collective over the
// world.
std::vector<MoeLayerRecord> moe_layer_records(const MoeStep& step,
                                              const ProcessGroupCollection& groups,
                                              bool sequence_parallel, double microbatches);

}  // namespace megatron
