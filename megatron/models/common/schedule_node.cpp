#include "megatron/models/common/schedule_node.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"

namespace megatron {

at::Tensor ScheduleNode::forward(const at::Tensor& input) {
  if (is_empty()) return input;
  check(
      !output_.defined(),
      "Expected backward() of a schedule node before its next forward(), but got forward() twice");
  if (input.defined()) input_ = input.detach().requires_grad_(at::GradMode::is_enabled());
  output_ = computation_(input_);
  return output_.detach();
}

at::Tensor ScheduleNode::backward(const at::Tensor& output_grad) {
  if (is_empty()) return output_grad;
  check(output_.defined(), "Expected forward() of a schedule node before backward(), but got none");
  // A node without input may have no trainable parameters either.
  check(output_.requires_grad() || !input_.defined(),
        "Expected forward() of a schedule node in grad mode before backward(), but it ran without");
  if (output_.requires_grad()) torch::autograd::backward({output_}, {output_grad});
  const at::Tensor input_grad = input_.defined() ? input_.grad() : at::Tensor();
  release();
  return input_grad;
}

}  // namespace megatron
