// Multiplicative noise on the router's input (Fedus et al., 2021), a function of the global element.
#pragma once

#include "megatron/ops/random/dropout.h"

namespace megatron {

// x [s_p, b, h] times uniform numbers of [1 - eps, 1 + eps], which depend on key, sample, position
// and column alone.
at::Tensor jittered(const at::Tensor& x, double eps, const DropoutKey& key,
                    const DropoutIndex& index);

}  // namespace megatron
