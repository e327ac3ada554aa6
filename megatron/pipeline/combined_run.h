// Combined 1F1B of a stage's chunks: passes run through schedule plans, the forward pass of one
// micro-batch interleaved with the backward pass of another.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include "megatron/pipeline/executor.h"
#include "megatron/pipeline/pipeline_forward.h"

namespace megatron {

class CombinedRun {
 public:
  // The arguments must outlive the run.
  CombinedRun(const GPTModelChunks& chunks, const std::vector<PipelineMicroBatch>& microbatches,
              const PipelineForwardOptions& options)
      : chunks_(chunks), microbatches_(microbatches), options_(options) {}

  // StageFunctions::combined.
  CombinedResults run(const CombinedPasses& passes);

 private:
  // A micro-batch in a chunk, between its forward and its backward pass.
  struct Pass {
    std::unique_ptr<TransformerModelChunkSchedulePlan> plan;
    ScheduleNode loss;  // on_output; empty except on the last virtual stage
  };
  Pass begin_forward(const PipelineStep& step, const at::Tensor& input);

  const GPTModelChunks& chunks_;
  const std::vector<PipelineMicroBatch>& microbatches_;
  const PipelineForwardOptions& options_;
  std::map<std::pair<int64_t, int>, Pass> passes_;  // by micro-batch and chunk
};

}  // namespace megatron
