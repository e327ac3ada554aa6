// Refuses a world whose ranks were started with different options.
#pragma once

#include "megatron/config/options/options.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// Throws Error on every rank, naming the ranks and options that differ, unless the options that
// ranks must share (RankAgreement) are equal everywhere. Collective over the world. Call it before
// validate(), so that no rank refuses its options alone while the others wait, and before the
// groups of the layout are made.
void check_same_options(const Options& options, const RankContext& rank);

}  // namespace megatron
