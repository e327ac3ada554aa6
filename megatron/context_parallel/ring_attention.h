// Context-parallel attention with cp_comm_type p2p (Liu et al., "Ring Attention", 2023): keys and
// values travel around a ring. Each rank starts with its local keys; while it computes with some,
// it sends them to the next rank and receives those of the previous one. Outputs are merged by
// their log-sum-exp. In backward the gradients follow their keys one step behind, until they are
// back on the keys' rank.
#pragma once

#include "megatron/context_parallel/context_parallel_attention.h"

namespace megatron {

AttentionBlockOutput ring_attention_forward(const ContextParallelAttentionCall& call,
                                            const ContextParallelAttentionInputs& inputs);

ContextParallelAttentionGradients ring_attention_backward(
    const ContextParallelAttentionCall& call, const ContextParallelAttentionInputs& inputs,
    const at::Tensor& out, const at::Tensor& lse, const at::Tensor& grad_out);

}  // namespace megatron
