// Runs a case in the layout of a world and compares what comes out.
#pragma once

#include "megatron/parallel/rank_context.h"
#include "megatron/parity/comparison.h"
#include "megatron/parity/parity_case.h"

namespace megatron {

// Collective over the world. `options` were configured by the case and validated for the layout.
// Data-parallel ranks share the case out as case_share says. Every rank returns the merged
// comparison. Throws Error where the case holds a tensor that no rank has.
Comparison run_parity(const ParityCase& parity_case, const Options& options,
                      const RankContext& rank);

}  // namespace megatron
