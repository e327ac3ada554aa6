// Keys and values in a ring (Liu et al., "Ring Attention", 2023): each rank starts with its own,
// computes with them while they go on to the next rank and the previous one's arrive, and merges
// what it gets by the log-sum-exp. In backward their gradients follow them, a step behind, until
// they are home.
#pragma once

#include "megatron/context_parallel/split_attention.h"

namespace megatron {

AttentionBlockOutput ring_attention_forward(const SplitAttentionCall& call,
                                            const SplitAttentionInputs& inputs);

SplitAttentionGradients ring_attention_backward(const SplitAttentionCall& call,
                                                const SplitAttentionInputs& inputs,
                                                const at::Tensor& out, const at::Tensor& lse,
                                                const at::Tensor& grad_out);

}  // namespace megatron
