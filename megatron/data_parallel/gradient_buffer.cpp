#include "megatron/data_parallel/gradient_buffer.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace megatron {
namespace {

// Moves a finished gradient into the main gradient.
class AccumulateIntoMainGrad : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit AccumulateIntoMainGrad(at::Tensor main_grad) : main_grad_(std::move(main_grad)) {}
  void operator()(const at::Tensor& parameter) override {
    at::NoGradGuard no_grad;
    // Undefined where an operator added the gradient itself (linear, embedding).
    if (!parameter.grad().defined()) return;
    main_grad_.add_(parameter.grad());
    parameter.mutable_grad().reset();
  }

 private:
  at::Tensor main_grad_;
};

at::ScalarType gradient_dtype(const Parameter& parameter,
                              const DistributedDataParallelConfig& config) {
  const at::ScalarType dtype = parameter.data.scalar_type();
  return config.grad_reduce_in_fp32 && dtype == at::kBFloat16 ? at::kFloat : dtype;
}

// Megatron's alignment of each parameter's start, in elements.
int64_t aligned(int64_t elements) {
  return (elements + 63) / 64 * 64;
}

}  // namespace

GradientBuffer::GradientBuffer(const std::vector<ParameterPtr>& parameters,
                               const DistributedDataParallelConfig& config, int data_parallel_size)
    : parameters_(parameters.rbegin(), parameters.rend()) {
  const int64_t bucket_size = config.bucket_size.value_or(
      std::max<int64_t>(40'000'000, 1'000'000 * int64_t{data_parallel_size}));
  for (size_t begin = 0; begin < parameters_.size();) {
    const at::ScalarType dtype = gradient_dtype(*parameters_[begin], config);
    int64_t elements = 0;
    size_t end = begin;
    for (; end < parameters_.size() && elements < bucket_size &&
           gradient_dtype(*parameters_[end], config) == dtype;
         ++end) {
      elements += aligned(parameters_[end]->data.numel());
    }
    const at::Tensor bucket =
        at::zeros({elements}, parameters_[begin]->data.options().requires_grad(false).dtype(dtype));
    int64_t start = 0;
    for (; begin < end; ++begin) {
      Parameter& parameter = *parameters_[begin];
      parameter.main_grad =
          bucket.narrow(0, start, parameter.data.numel()).view(parameter.data.sizes());
      torch::autograd::impl::set_post_acc_grad_hooks(
          parameter.data, std::make_unique<AccumulateIntoMainGrad>(parameter.main_grad));
      start += aligned(parameter.data.numel());
    }
    buckets_.push_back(bucket);
  }
}

GradientBuffer::~GradientBuffer() {
  for (const ParameterPtr& parameter : parameters_) {
    parameter->main_grad.reset();
    torch::autograd::impl::set_post_acc_grad_hooks(parameter->data, nullptr);
  }
}

void GradientBuffer::zero() {
  for (at::Tensor& bucket : buckets_) bucket.zero_();
}

void GradientBuffer::all_reduce(const ProcessGroup& data_parallel) {
  for (const at::Tensor& bucket : buckets_) data_parallel.all_reduce(bucket);
}

void GradientBuffer::scale(double factor) {
  for (at::Tensor& bucket : buckets_) bucket.mul_(factor);
}

int64_t GradientBuffer::num_elements() const {
  int64_t elements = 0;
  for (const at::Tensor& bucket : buckets_) elements += bucket.numel();
  return elements;
}

void finalize_shared_gradients(const std::vector<ParameterPtr>& parameters,
                               const ProcessGroupCollection& groups) {
  if (groups.tp->size() > 1) {
    std::vector<at::Tensor> partial;
    for (const ParameterPtr& parameter : parameters) {
      if (parameter->sequence_parallel) partial.push_back(parameter->main_grad.view(-1));
    }
    if (!partial.empty()) {
      const at::Tensor flat = at::cat(partial);
      groups.tp->all_reduce(flat);
      int64_t start = 0;
      for (at::Tensor& gradient : partial) {
        gradient.copy_(flat.narrow(0, start, gradient.numel()));
        start += gradient.numel();
      }
    }
  }
  if (groups.embd && groups.embd->size() > 1) {
    for (const ParameterPtr& parameter : parameters) {
      if (parameter->shared_embedding) groups.embd->all_reduce(parameter->main_grad);
    }
  }
}

}  // namespace megatron
