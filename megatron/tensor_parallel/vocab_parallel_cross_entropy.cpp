#include "megatron/tensor_parallel/vocab_parallel_cross_entropy.h"

#include <torch/csrc/autograd/custom_function.h>

#include "megatron/base/error.h"
#include "megatron/ops/loss/cross_entropy.h"
#include "megatron/tensor_parallel/vocab_parallel_loss.h"

namespace megatron {
namespace {

class VocabParallelCrossEntropy : public torch::autograd::Function<VocabParallelCrossEntropy> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& targets, const VocabularyBlock& block,
                            const CrossEntropyParameters& parameters, const ProcessGroup* tp,
                            bool fused) {
    const at::Tensor rows = logits.reshape({targets.numel(), logits.size(-1)});
    const at::Tensor row_targets = targets.reshape({-1}).contiguous();
    CrossEntropyStatistics statistics(rows.size(0), rows.options(), parameters);
    cross_entropy_accumulate(statistics, rows, block, row_targets, parameters);
    reduce_statistics(statistics, *tp, /*packed=*/fused);
    ctx->save_for_backward({rows, row_targets, statistics.row_max, statistics.sums});
    ctx->saved_data["vocab_size"] = parameters.vocab_size;
    ctx->saved_data["label_smoothing"] = parameters.label_smoothing;
    ctx->saved_data["start"] = block.start;
    ctx->saved_data["valid"] = block.valid;
    ctx->saved_data["overwrites_logits"] = fused && !logits.is_leaf();
    ctx->saved_data["shape"] = logits.sizes().vec();
    return cross_entropy_loss(statistics, parameters).view(targets.sizes());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor& rows = saved[0];
    const CrossEntropyParameters parameters{
        .vocab_size = ctx->saved_data["vocab_size"].toInt(),
        .label_smoothing = ctx->saved_data["label_smoothing"].toDouble()};
    const VocabularyBlock block{ctx->saved_data["start"].toInt(), ctx->saved_data["valid"].toInt()};
    const bool overwrites_logits =
        ctx->saved_data["overwrites_logits"].toBool() && rows.is_contiguous();
    at::Tensor grad = overwrites_logits ? rows.detach() : at::empty(rows.sizes(), rows.options());
    cross_entropy_grad_out(grad, rows, block, {saved[2], saved[3]}, saved[1],
                           grads[0].reshape({-1}).contiguous(), parameters);
    // Lets autograd detect operators that saved the logits before they were overwritten.
    if (overwrites_logits) rows.unsafeGetTensorImpl()->bump_version();
    return {grad.view(ctx->saved_data["shape"].toIntVector()), {}, {}, {}, {}, {}};
  }
};

at::Tensor checked_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                 int64_t vocab_size, const ProcessGroup& tp, double label_smoothing,
                                 bool fused) {
  check(logits.defined() && logits.dim() >= 1,
        "Expected logits of at least one dimension, but got none");
  check_labels(targets, logits.sizes().slice(0, logits.dim() - 1), vocab_size);
  const CrossEntropyParameters parameters{.vocab_size = vocab_size,
                                          .label_smoothing = label_smoothing};
  const auto block = vocabulary_block(logits.size(-1), vocab_size, tp);
  return VocabParallelCrossEntropy::apply(logits, targets, block, parameters, &tp, fused);
}

}  // namespace

at::Tensor vocab_parallel_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                        int64_t vocab_size, const ProcessGroup& tp,
                                        double label_smoothing) {
  return checked_cross_entropy(logits, targets, vocab_size, tp, label_smoothing, /*fused=*/false);
}

at::Tensor fused_vocab_parallel_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                              int64_t vocab_size, const ProcessGroup& tp,
                                              double label_smoothing) {
  return checked_cross_entropy(logits, targets, vocab_size, tp, label_smoothing, /*fused=*/true);
}

}  // namespace megatron
