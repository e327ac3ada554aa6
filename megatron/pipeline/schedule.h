// Pipeline schedules as data: which micro-batch a stage runs forward or backward, in which order.
// The executor runs such a list, tests check it, planners can simulate or draw it.
#pragma once

#include <cstdint>
#include <vector>

namespace megatron {

struct PipelineStep {
  enum class Kind { forward, backward };
  Kind kind = Kind::forward;
  int64_t microbatch = 0;

  bool operator==(const PipelineStep&) const = default;
};

// 1F1B (Narayanan et al., 2021): min(microbatches, stages - stage - 1) forward passes to fill the
// pipeline, then one forward and one backward in turn, then the backward passes that are left.
std::vector<PipelineStep> one_forward_one_backward(int stage, int stages, int64_t microbatches);

// Forward passes alone, for evaluation.
std::vector<PipelineStep> forward_only(int64_t microbatches);

}  // namespace megatron
