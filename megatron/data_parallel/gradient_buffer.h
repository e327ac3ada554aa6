// The main gradients of parameters in contiguous buckets.
#pragma once

#include <functional>

#include "megatron/data_parallel/flat_buffer.h"
#include "megatron/data_parallel/parameter_buckets.h"

namespace megatron {

class GradientBuffer {
 public:
  // Called each time that a backward pass has completed a parameter's gradient, also where an
  // operator added it to main_grad itself.
  using OnGradient = std::function<void(const Parameter& parameter)>;

  // Makes main_grad of every parameter a view of its bucket, set to zero. A gradient that autograd
  // computes is added to main_grad and freed; operators may add to main_grad directly.
  explicit GradientBuffer(std::vector<BucketLayout> layouts, OnGradient on_gradient = nullptr);
  // With the layout of plan_buckets.
  GradientBuffer(const std::vector<ParameterPtr>& parameters,
                 const DistributedDataParallelConfig& config, int data_parallel_size);
  ~GradientBuffer();
  GradientBuffer(const GradientBuffer&) = delete;
  GradientBuffer& operator=(const GradientBuffer&) = delete;

  const std::vector<BucketLayout>& layouts() const { return layouts_; }
  FlatBuffer& bucket(size_t index) { return buckets_[index]; }
  const FlatBuffer& bucket(size_t index) const { return buckets_[index]; }
  size_t num_buckets() const { return buckets_.size(); }
  void zero();

 private:
  std::vector<BucketLayout> layouts_;
  std::vector<FlatBuffer> buckets_;
  OnGradient on_gradient_;
};

}  // namespace megatron
