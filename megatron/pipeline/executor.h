// Runs a schedule on one stage: receives, computes, sends.
#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

// What a stage does with a micro-batch in one of its chunks.
struct StageFunctions {
  // An empty tensor for what the chunk receives: its shape may differ by micro-batch and chunk.
  std::function<at::Tensor(int64_t microbatch, int chunk)> empty_input;
  // `input` is what the virtual stage before sent (undefined on the first); the result goes to the
  // next one. On the last virtual stage the result is the scalar that backward starts from.
  std::function<at::Tensor(int64_t microbatch, int chunk, const at::Tensor& input)> forward;
};

struct TransferOptions {
  bool overlap = true;     // receives begin two steps before the one that needs them
  bool deallocate = true;  // outputs that have gone keep their graph but not their values
};

// Collective over `pp`: every stage calls it with the same schedule and runs its own list. Backward
// steps leave the parameters' gradients behind.
void run_schedule(const PipelineSchedule& schedule, const ProcessGroup& pp,
                  const StageFunctions& functions, const TransferOptions& options = {});

}  // namespace megatron
