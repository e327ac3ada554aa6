// The global batch size, constant or growing (Megatron core/num_microbatches_calculator.py).
#pragma once

#include <cstdint>
#include <vector>

#include "megatron/config/model/training_config.h"

namespace megatron {

// Samples per step at the end of a run: --global-batch-size, or by default one micro-batch per
// data-parallel rank. Rounded down as BatchSizeSchedule does.
int64_t global_batch_size(const BatchConfig& config, int64_t data_parallel_size);

// The global batch size over the samples of a run. With rampup_batch_size (first, increment,
// samples) it grows from `first` to the final size in equal intervals of `samples`. With
// decrease_batch_size_if_needed, sizes are rounded down to a multiple of the micro-batches of all
// data-parallel ranks.
class BatchSizeSchedule {
 public:
  // `config` must be validated.
  BatchSizeSchedule(const BatchConfig& config, int64_t data_parallel_size);

  // Samples of the step that follows `consumed_samples` samples.
  int64_t batch_size(int64_t consumed_samples) const;
  int64_t final_batch_size() const { return rounded(final_); }
  bool ramps() const { return samples_ > 0; }

  // The sizes of the ramp, ascending and without repetition; one size without a ramp.
  std::vector<int64_t> batch_sizes() const;

  // The number of whole steps from `consumed_samples` to at most `end_samples` samples.
  int64_t steps_until(int64_t end_samples, int64_t consumed_samples = 0) const;

 private:
  int64_t rounded(int64_t size) const { return size / divisor_ * divisor_; }

  int64_t final_;
  int64_t divisor_ = 1;
  int64_t first_ = 0, increment_ = 0, samples_ = 0;  // the ramp; 0: none
};

// Whether the learning-rate schedule counts samples instead of optimizer steps: steps of a ramp
// hold different numbers of samples.
inline bool counts_samples(const TrainingConfig& training, const BatchConfig& batch) {
  return training.train_samples.has_value() || !batch.rampup_batch_size.empty();
}

}  // namespace megatron
