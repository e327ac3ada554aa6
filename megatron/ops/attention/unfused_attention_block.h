// Attention blocks composed of libtorch operators that store the scores: any mask, bias, dtype and
// device.
#pragma once

#include "megatron/ops/attention/attention_block.h"

namespace megatron {

AttentionBlockOutput unfused_attention_block(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionOptions& options);

AttentionBlockGradients unfused_attention_block_backward(const at::Tensor& q, const at::Tensor& k,
                                                         const at::Tensor& v, const at::Tensor& out,
                                                         const at::Tensor& lse,
                                                         const at::Tensor& grad_out,
                                                         const AttentionOptions& options);

}  // namespace megatron
