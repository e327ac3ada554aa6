#include "megatron/context_parallel/all_gather_attention.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"

namespace megatron {

namespace {

// The keys and values of the full sequence in its order, and the options of this rank's block.
struct GatheredInputs {
  at::Tensor positions;  // of the gathered tokens, in the order of the ranks
  ContextParallelAttentionInputs inputs;
  AttentionOptions block;

  GatheredInputs(const ContextParallelAttentionCall& call,
                 const ContextParallelAttentionInputs& local)
      : positions(gathered_positions(call.options().split)) {
    const at::Tensor kv = call.cp().all_gather(local.kv);
    inputs = local.with_kv(kv.index_select(0, inverse_permutation(positions).to(kv.device())));
    block = call.block(at::arange(positions.numel(), at::kLong), /*with_sink=*/true,
                       local.softmax_offset, local.bias);
  }
};

}  // namespace

AttentionBlockOutput all_gather_attention_forward(const ContextParallelAttentionCall& call,
                                                  const ContextParallelAttentionInputs& inputs) {
  const GatheredInputs all(call, inputs);
  return attention_block(inputs.q, all.inputs.k(), all.inputs.v(), all.block,
                         call.options().unfused);
}

ContextParallelAttentionGradients all_gather_attention_backward(
    const ContextParallelAttentionCall& call, const ContextParallelAttentionInputs& inputs,
    const at::Tensor& out, const at::Tensor& lse, const at::Tensor& grad_out) {
  const at::ScalarType wide = accumulation_dtype(inputs.q.scalar_type());
  const GatheredInputs all(call, inputs);
  const AttentionBlockGradients gradients =
      attention_block_backward(inputs.q, all.inputs.k(), all.inputs.v(), out, lse, grad_out,
                               all.block, call.options().unfused);
  const at::Tensor grad_kv = at::cat({gradients.k, gradients.v}, /*dim=*/3).to(wide);
  return {
      .q = gradients.q.to(wide),
      .kv = call.cp().reduce_scatter(grad_kv.index_select(0, all.positions.to(grad_kv.device()))),
      .softmax_offset = gradients.softmax_offset,
      .bias = gradients.bias};
}

}  // namespace megatron
