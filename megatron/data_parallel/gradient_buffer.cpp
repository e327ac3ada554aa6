#include "megatron/data_parallel/gradient_buffer.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace megatron {
namespace {

// Adds a parameter's completed gradient to its main gradient.
class AccumulateIntoMainGrad : public torch::autograd::PostAccumulateGradHook {
 public:
  AccumulateIntoMainGrad(const Parameter& parameter, const GradientBuffer::OnGradient& on_gradient)
      : parameter_(parameter), on_gradient_(on_gradient) {}
  void operator()(const at::Tensor& tensor) override {
    at::NoGradGuard no_grad;
    // Undefined where an operator (linear, embedding) added to main_grad itself.
    if (tensor.grad().defined()) {
      parameter_.main_grad.add_(tensor.grad());
      tensor.mutable_grad().reset();
    }
    if (on_gradient_) on_gradient_(parameter_);
  }

 private:
  const Parameter& parameter_;
  const GradientBuffer::OnGradient& on_gradient_;
};

}  // namespace

GradientBuffer::GradientBuffer(std::vector<BucketLayout> layouts, OnGradient on_gradient)
    : layouts_(std::move(layouts)), on_gradient_(std::move(on_gradient)) {
  for (const BucketLayout& layout : layouts_) {
    const FlatBuffer& bucket = buckets_.emplace_back(
        layout.numel, at::TensorOptions().dtype(layout.grad_dtype).device(layout.device));
    bucket.tensor().zero_();
    for (const auto& [parameter, start] : layout.slots) {
      parameter->main_grad =
          bucket.tensor().narrow(0, start, parameter->data.numel()).view(parameter->data.sizes());
      torch::autograd::impl::set_post_acc_grad_hooks(
          parameter->data, std::make_unique<AccumulateIntoMainGrad>(*parameter, on_gradient_));
    }
  }
}

GradientBuffer::GradientBuffer(const std::vector<ParameterPtr>& parameters,
                               const DistributedDataParallelConfig& config, int data_parallel_size)
    : GradientBuffer(plan_buckets(parameters, {config, data_parallel_size})) {}

GradientBuffer::~GradientBuffer() {
  for (const BucketLayout& layout : layouts_) {
    for (const auto& [parameter, start] : layout.slots) {
      parameter->main_grad.reset();
      torch::autograd::impl::set_post_acc_grad_hooks(parameter->data, nullptr);
    }
  }
}

void GradientBuffer::zero() {
  for (const FlatBuffer& bucket : buckets_) bucket.tensor().zero_();
}

}  // namespace megatron
