#include "megatron/pipeline/schedule.h"

#include <algorithm>

namespace megatron {

std::vector<PipelineStep> one_forward_one_backward(int stage, int stages, int64_t microbatches) {
  const int64_t warmup = std::min<int64_t>(microbatches, stages - stage - 1);
  std::vector<PipelineStep> steps;
  for (int64_t i = 0; i < warmup; ++i) steps.push_back({PipelineStep::Kind::forward, i});
  for (int64_t i = warmup; i < microbatches; ++i) {
    steps.push_back({PipelineStep::Kind::forward, i});
    steps.push_back({PipelineStep::Kind::backward, i - warmup});
  }
  for (int64_t i = microbatches - warmup; i < microbatches; ++i) {
    steps.push_back({PipelineStep::Kind::backward, i});
  }
  return steps;
}

std::vector<PipelineStep> forward_only(int64_t microbatches) {
  std::vector<PipelineStep> steps;
  for (int64_t i = 0; i < microbatches; ++i) steps.push_back({PipelineStep::Kind::forward, i});
  return steps;
}

}  // namespace megatron
