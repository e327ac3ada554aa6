// Keys and values of all ranks gathered on every rank; their gradients are reduce-scattered.
// Backward gathers again instead of keeping them.
#pragma once

#include "megatron/context_parallel/split_attention.h"

namespace megatron {

AttentionBlockOutput gathered_attention_forward(const SplitAttentionCall& call,
                                                const SplitAttentionInputs& inputs);

SplitAttentionGradients gathered_attention_backward(const SplitAttentionCall& call,
                                                    const SplitAttentionInputs& inputs,
                                                    const at::Tensor& out, const at::Tensor& lse,
                                                    const at::Tensor& grad_out);

}  // namespace megatron
