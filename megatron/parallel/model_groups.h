// The groups of a model's layout.
#pragma once

#include "megatron/config/model/ddp_config.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// The configuration's sizes; the remaining ranks form the data-parallel group. Throws Error where
// the sizes do not divide the world.
ParallelSizes parallel_sizes(const TransformerConfig& config, int world_size);

// Creates the groups of this rank. Collective over the world.
ProcessGroupCollection make_model_groups(const TransformerConfig& config, const RankContext& rank);

// Also adds the MTP stage to the embedding group where a pipeline layout places the MTP layers and
// the loss on different stages: the MTP stage holds a copy of the embedding.
ProcessGroupCollection make_model_groups(const GPTModelConfig& config, const RankContext& rank);

// "TP=2 x PP=2 x DP=1, 4 ranks (gloo), 1 thread each"
std::string describe_world(const TransformerConfig& config,
                           const DistributedDataParallelConfig& ddp, const RankContext& rank);

}  // namespace megatron
