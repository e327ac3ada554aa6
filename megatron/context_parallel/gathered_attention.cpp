#include "megatron/context_parallel/gathered_attention.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"

namespace megatron {

namespace {

// The whole row: keys and values in its order, and the block of this rank's queries with them.
struct WholeRow {
  at::Tensor gathered;  // the places of what ranks give, in their order
  SplitAttentionInputs inputs;
  AttentionBlock block;

  WholeRow(const SplitAttentionCall& call, const SplitAttentionInputs& local)
      : gathered(gathered_positions(call.options().split)) {
    const at::Tensor kv = call.cp().all_gather(local.kv);
    inputs = local.with(kv.index_select(0, places_of_tokens(gathered).to(kv.device())));
    block = call.block(at::arange(gathered.numel(), at::kLong), /*with_sink=*/true,
                       local.softmax_offset, local.bias);
  }
};

}  // namespace

AttentionBlockOutput gathered_attention_forward(const SplitAttentionCall& call,
                                                const SplitAttentionInputs& inputs) {
  const WholeRow row(call, inputs);
  return attention_block(inputs.q, row.inputs.k(), row.inputs.v(), row.block);
}

SplitAttentionGradients gathered_attention_backward(const SplitAttentionCall& call,
                                                    const SplitAttentionInputs& inputs,
                                                    const at::Tensor& out, const at::Tensor& lse,
                                                    const at::Tensor& grad_out) {
  const at::ScalarType wide = accumulation_dtype(inputs.q.scalar_type());
  const WholeRow row(call, inputs);
  const AttentionBlockGradients whole = attention_block_backward(
      inputs.q, row.inputs.k(), row.inputs.v(), out, lse, grad_out, row.block);
  const at::Tensor grad_kv = at::cat({whole.k, whole.v}, /*dim=*/3).to(wide);
  return {
      .q = whole.q.to(wide),
      .kv = call.cp().reduce_scatter(grad_kv.index_select(0, row.gathered.to(grad_kv.device()))),
      .softmax_offset = whole.softmax_offset,
      .bias = whole.bias};
}

}  // namespace megatron
