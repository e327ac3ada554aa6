// Result of an attention or MLP module.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// The output before the bias of the last linear layer, and that bias (undefined if none). The
// caller fuses bias, dropout and residual addition.
struct OutputAndBias {
  at::Tensor output;  // [s, b, h], or [s/tp, b, h] with sequence parallelism
  at::Tensor bias;    // [h]
  // With apply_residual_connection_post_layernorm, from a module that normalizes its input: the
  // normalized input, for the residual connection.
  at::Tensor normed = {};
};

}  // namespace megatron
