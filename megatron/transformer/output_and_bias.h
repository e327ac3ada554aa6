// What a sub-layer gives to the residual stream.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// The output without the bias of its last linear layer, and that bias (undefined where there is
// none), so that the caller adds it together with dropout and residual.
struct OutputAndBias {
  at::Tensor output;  // [s, b, h], or [s/tp, b, h] with sequence parallelism
  at::Tensor bias;    // [h]
};

}  // namespace megatron
