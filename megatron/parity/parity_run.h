// Runs a case in the layout of a world and compares the results.
#pragma once

#include "megatron/parallel/rank_context.h"
#include "megatron/parity/comparison.h"
#include "megatron/parity/parity_case.h"

namespace megatron {

// Collective over the world. `options` must have been configured by the case and validated for the
// layout. case_share() says how data-parallel ranks share the batch. Every rank returns the merged
// comparison. Throws Error where the case holds a parameter that no rank has.
Comparison run_parity(const ParityCase& parity_case, const Options& options,
                      const RankContext& rank);

}  // namespace megatron
