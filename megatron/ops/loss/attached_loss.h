// A loss that joins the backward pass of a tensor on its way to another loss (Megatron's
// MTPLossAutoScaler and MoEAuxLossAutoScaler, without their global scale).
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// Gives `output` back as it is. In backward its gradient passes unchanged, and every element of
// `loss` (any shape) gets the gradient `scale`, whatever the gradient of `output`.
at::Tensor attach_loss(const at::Tensor& output, const at::Tensor& loss, double scale);

}  // namespace megatron
