// Main gradients of parameters in contiguous buckets.
#pragma once

#include <functional>

#include "megatron/data_parallel/flat_buffer.h"
#include "megatron/data_parallel/parameter_buckets.h"

namespace megatron {

class GradientBuffer {
 public:
  // Told after every gradient that a backward pass left, whoever added it to main_grad.
  using OnGradient = std::function<void(const Parameter& parameter)>;

  // Gives every parameter its main_grad, a view of a bucket that starts at zero. A gradient that
  // autograd computes is added to main_grad and freed; operators may add theirs directly.
  explicit GradientBuffer(std::vector<BucketLayout> layouts, OnGradient on_gradient = nullptr);
  // The buckets of plan_buckets.
  GradientBuffer(const std::vector<ParameterPtr>& parameters,
                 const DistributedDataParallelConfig& config, int data_parallel_size);
  ~GradientBuffer();
  GradientBuffer(const GradientBuffer&) = delete;
  GradientBuffer& operator=(const GradientBuffer&) = delete;

  const std::vector<BucketLayout>& layouts() const { return layouts_; }
  FlatBuffer& bucket(size_t index) { return buckets_[index]; }
  size_t num_buckets() const { return buckets_.size(); }
  void zero();

 private:
  std::vector<BucketLayout> layouts_;
  std::vector<FlatBuffer> buckets_;
  OnGradient on_gradient_;
};

}  // namespace megatron
