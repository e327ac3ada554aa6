// Runs a pipeline schedule on one stage: receives, computes, sends.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

// A forward pass, a backward pass, or both to be run interleaved.
struct CombinedPasses {
  std::optional<PipelineStep> forward, backward;
  at::Tensor input;        // of the forward pass; undefined on the first virtual stage
  at::Tensor output_grad;  // of the backward pass
};
struct CombinedResults {
  at::Tensor output;      // detached; undefined without a forward pass
  at::Tensor input_grad;  // undefined without a backward pass and on the first virtual stage
};

// What a stage computes for a micro-batch in one of its chunks.
struct StageFunctions {
  // Allocates the tensor that the chunk receives. Its shape may depend on micro-batch and chunk.
  std::function<at::Tensor(int64_t microbatch, int chunk)> empty_input;
  // The forward pass. `input` is the output of the previous virtual stage, undefined on the first;
  // the result is sent to the next one. On the last virtual stage it is the scalar that backward
  // starts from.
  std::function<at::Tensor(int64_t microbatch, int chunk, const at::Tensor& input)> forward;
  // Runs all passes of a combined schedule, instead of `forward` and autograd. The function keeps the
  // graph of a forward pass until its backward pass.
  std::function<CombinedResults(const CombinedPasses& passes)> combined = {};
  // Called before a backward pass that has a graph; may be empty.
  std::function<void(int64_t microbatch, int chunk)> before_backward = {};
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
