#pragma once

#include "megatron/config/options/options.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// Throws Error on every rank, naming the ranks that differ and in what, unless all were started
// with options that agree (RankAgreement). Collective over the world; to be called before a rank
// refuses its own options, which the others would wait for, and before the groups of a layout are
// made, since another layout has other groups.
void check_same_options(const Options& options, const RankContext& rank);

}  // namespace megatron
