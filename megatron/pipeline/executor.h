// Runs a schedule on one stage: receives, computes, sends.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

// What a stage does with a micro-batch. `input` is what the stage before sent (undefined on the
// first stage); the result goes to the next stage. On the last stage the result is the scalar that
// backward starts from.
using StageForward = std::function<at::Tensor(int64_t microbatch, const at::Tensor& input)>;

// The tensors that travel between two stages: all of one shape and dtype.
struct ActivationShape {
  std::vector<int64_t> sizes;  // [s, b, h], or [s/tp, b, h] with sequence parallelism
  at::TensorOptions options;
};

// Collective over `pp`: every stage calls it with its own list for the same micro-batches. Backward
// steps leave the parameters' gradients behind.
void run_schedule(const std::vector<PipelineStep>& steps, const ProcessGroup& pp,
                  const ActivationShape& activation, const StageForward& forward);

}  // namespace megatron
