// Context-parallel attention with cp_comm_type all_gather: every rank gathers the keys and values
// of all ranks; their gradients are reduce-scattered. Backward gathers again instead of keeping
// them.
#pragma once

#include "megatron/context_parallel/context_parallel_attention.h"

namespace megatron {

AttentionBlockOutput all_gather_attention_forward(const ContextParallelAttentionCall& call,
                                                  const ContextParallelAttentionInputs& inputs);

ContextParallelAttentionGradients all_gather_attention_backward(
    const ContextParallelAttentionCall& call, const ContextParallelAttentionInputs& inputs,
    const at::Tensor& out, const at::Tensor& lse, const at::Tensor& grad_out);

}  // namespace megatron
