// The groups of a model's layout.
#pragma once

#include "megatron/config/model/ddp_config.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// The configuration's sizes, with data parallelism over what is left of the world. Throws Error
// where nothing whole is left.
ParallelSizes parallel_sizes(const TransformerConfig& config, int world_size);

// Collective over the world.
ProcessGroupCollection make_model_groups(const TransformerConfig& config, const RankContext& rank);

// The same, with an embedding group of all stages that hold a copy of the embedding: the stage of
// the prediction layers too, where a layout keeps them apart from the loss.
ProcessGroupCollection make_model_groups(const GPTModelConfig& config, const RankContext& rank);

// "TP=2 x PP=2 x DP=1, 4 ranks (gloo), 1 thread each"
std::string describe_world(const TransformerConfig& config,
                           const DistributedDataParallelConfig& ddp, const RankContext& rank);

}  // namespace megatron
