// Runs a function as a single node of the autograd graph.
#pragma once

#include "megatron/ops/recompute.h"

namespace megatron {

// function(inputs), one tensor. Backward runs the function's own graph in a nested backward pass,
// so parameters inside it receive their gradients from each node separately: several nodes that
// share parameters (a repeated MTP layer) accumulate in main_grad, in fp32, where autograd would
// sum the uses of one graph in the parameters' dtype. Recomputation accumulates in the same way, so
// both give identical bits. `function` has the requirements of a TensorFunction. Backward runs
// once: throws Error with retain_graph on a second pass, and from autograd's grad().
at::Tensor run_in_nested_graph(const TensorFunction& function, const Tensors& inputs);

}  // namespace megatron
