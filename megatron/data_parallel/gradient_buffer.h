// Main gradients of a model in contiguous buckets, reduced over the data-parallel group (Megatron's
// param_and_grad_buffer.py).
#pragma once

#include <vector>

#include "megatron/base/parameter.h"
#include "megatron/config/ddp_config.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

class GradientBuffer {
 public:
  // Gives every parameter its main_grad: a view of a bucket, in reverse order of registration,
  // which is about the order in which gradients become final. Gradients of bf16 parameters are kept
  // in fp32 with grad_reduce_in_fp32. Each gradient that autograd computes is added to main_grad
  // and freed.
  GradientBuffer(const std::vector<ParameterPtr>& parameters,
                 const DistributedDataParallelConfig& config, int data_parallel_size);
  ~GradientBuffer();
  GradientBuffer(const GradientBuffer&) = delete;
  GradientBuffer& operator=(const GradientBuffer&) = delete;

  void zero();
  // Sums every bucket over the group.
  void all_reduce(const ProcessGroup& data_parallel);
  void scale(double factor);

  int64_t num_elements() const;
  const std::vector<at::Tensor>& buckets() const { return buckets_; }

 private:
  std::vector<ParameterPtr> parameters_;
  std::vector<at::Tensor> buckets_;  // flat; parameters of one dtype each
};

// What is left to do for complete gradients after the data-parallel sum, in Megatron's order
// (finalize_model_grads.py): parameters that saw only a part of the sequence are summed over the
// tensor-parallel group, the copies of a tied embedding over the embedding group.
void finalize_shared_gradients(const std::vector<ParameterPtr>& parameters,
                               const ProcessGroupCollection& groups);

}  // namespace megatron
