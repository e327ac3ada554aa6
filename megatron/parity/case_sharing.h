// How the data-parallel ranks of a layout share a case out.
#pragma once

#include "megatron/parity/parity_case.h"
#include "megatron/training/micro_batch.h"

namespace megatron {

// What each data-parallel rank takes of a step: whole micro-batches where their number divides,
// else rows of every one.
struct CaseShare {
  BatchSharing sharing = BatchSharing::whole_microbatches;
  int64_t microbatches = 1, rows = 1;  // of a rank; rows of each micro-batch
};

// Of a world whose size the model's ranks divide. Throws Error where neither micro-batches nor rows
// divide, with the nearest worlds that work.
CaseShare case_share(const ParityCase& parity_case, const TransformerConfig& config,
                     int64_t world_size);

// Refuses a layout that cannot run the case, before ranks start; for options that the case has
// configured and validate() has passed. Throws Error with what works.
void check_case_layout(const ParityCase& parity_case, const TransformerConfig& config,
                       int64_t world_size);

}  // namespace megatron
