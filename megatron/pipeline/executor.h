// Runs a pipeline schedule on one stage: receives, computes, sends.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

// What a stage computes for a micro-batch in one of its chunks.
struct StageFunctions {
  // Allocates the tensor that the chunk receives. Its shape may depend on micro-batch and chunk.
  std::function<at::Tensor(int64_t microbatch, int chunk)> empty_input;
  // The forward pass. `input` is the output of the previous virtual stage, undefined on the first;
  // the result is sent to the next one. On the last virtual stage it is the scalar that backward
  // starts from.
  std::function<at::Tensor(int64_t microbatch, int chunk, const at::Tensor& input)> forward;
};

struct TransferOptions {
  bool overlap = true;     // post receives two steps before the step that needs them
  bool deallocate = true;  // free the values of outputs once they are sent; their graph stays
};

// Collective over `pp`: every stage passes the same schedule and runs its own list. Backward steps
// accumulate gradients into the parameters.
void run_schedule(const PipelineSchedule& schedule, const ProcessGroup& pp,
                  const StageFunctions& functions, const TransferOptions& options = {});

}  // namespace megatron
