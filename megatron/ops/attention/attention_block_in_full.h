// Blocks of attention with their scores held in full: any mask, bias, dtype and device.
#pragma once

#include "megatron/ops/attention/attention_block.h"

namespace megatron {

AttentionBlockOutput attention_block_in_full(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionBlock& block);

AttentionBlockGradients attention_block_in_full_backward(const at::Tensor& q, const at::Tensor& k,
                                                         const at::Tensor& v, const at::Tensor& out,
                                                         const at::Tensor& lse,
                                                         const at::Tensor& grad_out,
                                                         const AttentionBlock& block);

}  // namespace megatron
