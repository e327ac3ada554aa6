// Attaches an auxiliary loss to a tensor, so that backward of the main loss also reaches it
// (Megatron's MTPLossAutoScaler and MoEAuxLossAutoScaler, without their global scale).
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// Returns `output` unchanged. In backward, output's gradient passes through unchanged, and every
// element of `loss` (any shape) gets the gradient `scale`.
at::Tensor attach_loss(const at::Tensor& output, const at::Tensor& loss, double scale);

}  // namespace megatron
