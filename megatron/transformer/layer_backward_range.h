// In a trace: a layer's backward pass.
#pragma once

#include <string_view>

#include <ATen/core/Tensor.h>

namespace megatron {

// The ranges are called this and the layer's number. They last from the gradient of the layer's
// output to that of its input, and so begin and end inside operators of autograd.
inline constexpr std::string_view kLayerBackwardRange = "backward of layer ";

// Puts hooks on both tensors that begin and end the range. Nothing where no trace is recorded, or
// where the backward pass does not go through the layer to its input.
void trace_layer_backward(int64_t layer_number, const at::Tensor& input, const at::Tensor& output);

}  // namespace megatron
