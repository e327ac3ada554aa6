#pragma once

#include "megatron/config/options.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// Throws Error on every rank, naming the ranks that differ, unless all were started with the same
// options (but for paths and addresses). Collective over the world; to be called before the groups
// of a layout are made, since another layout has other groups.
void check_same_options(const Options& options, const RankContext& rank);

}  // namespace megatron
