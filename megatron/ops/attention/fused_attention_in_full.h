// Fused attention as a composition of differentiable operators that holds the scores in full: the
// tests' oracle, and what dtypes and devices without a kernel run.
#pragma once

#include "megatron/ops/attention/fused_attention.h"

namespace megatron {

at::Tensor fused_attention_in_full(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const FusedAttentionOptions& options);

}  // namespace megatron
