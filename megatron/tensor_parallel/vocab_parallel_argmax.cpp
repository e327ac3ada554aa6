#include "megatron/tensor_parallel/vocab_parallel_argmax.h"

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include "megatron/base/error.h"
#include "megatron/tensor_parallel/vocab_parallel_loss.h"

namespace megatron {

at::Tensor vocab_parallel_argmax(const at::Tensor& logits, int64_t vocab_size,
                                 const ProcessGroup& tp) {
  check(logits.defined() && logits.dim() >= 1,
        "Expected logits of at least one dimension, but got none");
  const auto block = vocabulary_block(logits.size(-1), vocab_size, tp);
  const auto shape = logits.sizes().slice(0, logits.dim() - 1);
  const at::Tensor rows = logits.detach().reshape({c10::multiply_integers(shape), logits.size(-1)});
  const auto [local, column] = largest_logits(rows, block.valid);
  at::Tensor ids = column + block.start;
  if (tp.size() > 1) {
    at::Tensor largest = local.clone();
    tp.all_reduce(largest, ReduceOp::max);
    // Ranks without the largest logit or without a valid column contribute vocab_size.
    ids.masked_fill_(local.ne(largest), vocab_size);
    if (block.valid == 0) ids.fill_(vocab_size);
    tp.all_reduce(ids, ReduceOp::min);
  }
  return ids.view(shape);
}

}  // namespace megatron
