// Trace range around a layer's backward pass.
#pragma once

#include <string_view>

#include <ATen/core/Tensor.h>

namespace megatron {

// Prefix of the range's name; the layer number follows. The range spans from the gradient of the
// layer's output to the gradient of its input, so it begins and ends inside autograd operators.
inline constexpr std::string_view kLayerBackwardRange = "backward of layer ";

// Registers gradient hooks on `input` and `output` that end and begin the range. Does nothing while
// no trace is recorded, or where no gradient flows from output to input.
void trace_layer_backward(int64_t layer_number, const at::Tensor& input, const at::Tensor& output);

}  // namespace megatron
