// How the data-parallel ranks of a layout share the batch of a case.
#pragma once

#include "megatron/parity/parity_case.h"
#include "megatron/training/micro_batch.h"

namespace megatron {

// The share of each data-parallel rank in a step: full micro-batches where their number divides by
// the ranks, else rows of every micro-batch.
struct CaseShare {
  BatchSharing sharing = BatchSharing::whole_microbatches;
  int64_t microbatches = 1, rows = 1;  // of one rank; rows per micro-batch
};

// `world_size` must be a multiple of the tensor x pipeline x context parallel size. Throws Error
// where neither micro-batches nor rows divide, with the nearest world sizes that work.
CaseShare case_share(const ParityCase& parity_case, const TransformerConfig& config,
                     int64_t world_size);

// Throws Error, with a layout that works, for one that cannot run the case. For options that the
// case has configured and validate() has accepted; call it before ranks start.
void check_case_layout(const ParityCase& parity_case, const TransformerConfig& config,
                       int64_t world_size);

}  // namespace megatron
