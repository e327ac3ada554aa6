// The quantised layers of a rank's chunks in a training step: codes of weights that last for the step,
// and the amax of delayed scaling over the ranks that share a layer's tensors.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/reporting/run_records.h"
#include "megatron/tensor_parallel/linear_quantizer.h"

namespace megatron {

class LowPrecisionStep {
 public:
  // The groups must outlive it.
  LowPrecisionStep(const GPTModelChunks& chunks, const ProcessGroupCollection& groups);

  // Before the first and after the last pass of a step. With FP8, end() is collective over the
  // world; it returns what happened to the operands of all ranks, nullopt without FP8.
  void begin();
  std::optional<LowPrecisionRecord> end();

 private:
  std::vector<std::shared_ptr<LinearQuantizer>> quantizers_;
  const ProcessGroupCollection& groups_;
  std::string recipe_;  // empty without FP8
};

}  // namespace megatron
