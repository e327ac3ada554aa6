#include "megatron/config/model/batch_size.h"

#include <algorithm>

namespace megatron {

int64_t global_batch_size(const BatchConfig& config, int64_t data_parallel_size) {
  return BatchSizeSchedule(config, data_parallel_size).final_batch_size();
}

BatchSizeSchedule::BatchSizeSchedule(const BatchConfig& config, int64_t data_parallel_size)
    : final_(config.global_batch_size.value_or(config.micro_batch_size * data_parallel_size)) {
  if (config.decrease_batch_size_if_needed) divisor_ = config.micro_batch_size * data_parallel_size;
  if (config.rampup_batch_size.size() != 3) return;
  first_ = config.rampup_batch_size[0];
  increment_ = config.rampup_batch_size[1];
  samples_ = config.rampup_batch_size[2];
}

int64_t BatchSizeSchedule::batch_size(int64_t consumed_samples) const {
  if (consumed_samples > samples_ || samples_ == 0) return final_batch_size();
  // In double, as Megatron does, so that the same step is the first of each size.
  const double samples_per_increment =
      static_cast<double>(samples_) / static_cast<double>((final_ - first_) / increment_);
  const auto increments =
      static_cast<int64_t>(static_cast<double>(consumed_samples) / samples_per_increment);
  return rounded(first_ + increments * increment_);
}

std::vector<int64_t> BatchSizeSchedule::batch_sizes() const {
  std::vector<int64_t> sizes;
  if (ramps()) {
    for (int64_t size = first_; size < final_; size += increment_) sizes.push_back(rounded(size));
  }
  sizes.push_back(final_batch_size());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

int64_t BatchSizeSchedule::steps_until(int64_t end_samples, int64_t consumed_samples) const {
  int64_t steps = 0;
  while (consumed_samples <= samples_) {
    const int64_t size = batch_size(consumed_samples);
    if (consumed_samples + size > end_samples) return steps;
    consumed_samples += size;
    ++steps;
  }
  return steps + std::max<int64_t>(end_samples - consumed_samples, 0) / final_batch_size();
}

}  // namespace megatron
