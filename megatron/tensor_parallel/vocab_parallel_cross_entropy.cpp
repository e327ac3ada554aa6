#include "megatron/tensor_parallel/vocab_parallel_cross_entropy.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/log.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/ops/cross_entropy.h"

namespace megatron {
namespace {

class VocabParallelCrossEntropy : public torch::autograd::Function<VocabParallelCrossEntropy> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& targets, int64_t valid_columns, int64_t vocab_start,
                            const ProcessGroup* tp) {
    const at::Tensor rows = logits.reshape({-1, logits.size(-1)});
    const at::Tensor row_targets = targets.reshape({-1}).contiguous();
    const auto options = rows.options().dtype(accumulation_dtype(rows.scalar_type()));
    at::Tensor row_max = at::empty({rows.size(0)}, options);
    at::Tensor sum_exp = at::empty_like(row_max);
    at::Tensor target_logit = at::empty_like(row_max);
    if (tp->size() == 1) {
      cross_entropy_rows(rows, valid_columns, row_targets, vocab_start, row_max, sum_exp,
                         target_logit);
    } else {
      cross_entropy_row_max(rows, valid_columns, row_max);
      tp->all_reduce(row_max, ReduceOp::max);
      cross_entropy_row_sums(rows, valid_columns, row_max, row_targets, vocab_start, sum_exp,
                             target_logit);
      tp->all_reduce(sum_exp);
      tp->all_reduce(target_logit);
    }
    ctx->save_for_backward({rows, row_targets, row_max, sum_exp});
    ctx->saved_data["valid_columns"] = valid_columns;
    ctx->saved_data["vocab_start"] = vocab_start;
    ctx->saved_data["shape"] = logits.sizes().vec();
    return (at::log(sum_exp) - target_logit).view(targets.sizes());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor grad = cross_entropy_grad(
        saved[0], ctx->saved_data["valid_columns"].toInt(), saved[2], saved[3], saved[1],
        ctx->saved_data["vocab_start"].toInt(), grads[0].reshape({-1}).contiguous());
    return {grad.view(ctx->saved_data["shape"].toIntVector()), {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor vocab_parallel_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                        int64_t vocab_size, const ProcessGroup& tp) {
  check(logits.sizes().slice(0, logits.dim() - 1) == targets.sizes(),
        "Expected targets of shape {} for logits of shape {}, but got {}",
        logits.sizes().slice(0, logits.dim() - 1).vec(), logits.sizes().vec(),
        targets.sizes().vec());
  if (targets.numel() > 0) {
    const int64_t least = targets.min().item<int64_t>(), greatest = targets.max().item<int64_t>();
    check(least >= 0 && greatest < vocab_size, "Expected labels within [0, {}), but got {}",
          vocab_size, least < 0 ? least : greatest);
  }
  const int64_t columns = logits.size(-1);
  const int64_t vocab_start = tp.rank() * columns;
  const int64_t valid_columns = std::clamp<int64_t>(vocab_size - vocab_start, 0, columns);
  return VocabParallelCrossEntropy::apply(logits, targets, valid_columns, vocab_start, &tp);
}

}  // namespace megatron
