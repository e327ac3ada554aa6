// Several results of a computation behind one autograd node.
#pragma once

#include "megatron/ops/recompute.h"

namespace megatron {

// The tensors unchanged; undefined ones stay undefined. Backward reaches this node before any node of
// the computation that they come from, so a hook on the gradient of one of them runs first.
Tensors joined_graph(const Tensors& tensors);

}  // namespace megatron
