// The contract of fused_attention, composed of differentiable libtorch operators that store the
// scores: for dtypes and devices without a kernel.
#pragma once

#include "megatron/ops/attention/fused_attention.h"

namespace megatron {

at::Tensor unfused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const AttentionOptions& options);

}  // namespace megatron
