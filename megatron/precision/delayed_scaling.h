// Delayed scaling: a tensor's scale follows from the amax of earlier steps, so that quantizing needs no
// pass over the tensor before it (Transformer Engine's DelayedScaling recipe).
#pragma once

#include <cstdint>
#include <vector>

#include "megatron/config/model/low_precision_config.h"
#include "megatron/ops/quantization/low_precision_format.h"

namespace megatron {

struct DelayedScalingOptions {
  LowPrecisionFormat format = LowPrecisionFormat::e4m3;  // or e5m2
  int64_t amax_history_len = 1;                          // steps
  AmaxComputeAlgo amax_compute_algo = AmaxComputeAlgo::most_recent;
  int margin = 0;  // the scale is multiplied by 2^-margin
};

// The state of one tensor, or of the tensors that share a scale.
class DelayedScaling {
 public:
  // Throws Error for a history shorter than one step or a format other than e4m3 and e5m2.
  explicit DelayedScaling(const DelayedScalingOptions& options);

  // For the values of the next step; 1 at first.
  float scale() const { return scale_; }

  // A state of scale() and amax_history(), as a checkpoint has it. Throws Error for a history of
  // another length.
  void restore(float scale, std::vector<float> amax_history);

  // Takes in a step's amax: the largest over all ranks that share the tensor. The new scale is
  // largest value * 2^-margin / amax, with the amax of the algorithm: NaN in the history is skipped;
  // an amax of zero or infinity, or no number at all, keeps the scale; a scale that overflows is the
  // largest float.
  void update(float amax);

  // [amax_history_len]. Element 0 is the place of the next step's amax, and 0; the last element is
  // that of the last step (Transformer Engine's order). A history of one step is always 0 here.
  const std::vector<float>& amax_history() const { return history_; }

 private:
  DelayedScalingOptions options_;
  std::vector<float> history_;
  float scale_ = 1;
};

}  // namespace megatron
