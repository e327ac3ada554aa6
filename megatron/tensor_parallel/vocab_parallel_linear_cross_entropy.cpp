#include "megatron/tensor_parallel/vocab_parallel_linear_cross_entropy.h"

#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/base/error.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/loss/linear_cross_entropy.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/parallel/collectives.h"
#include "megatron/tensor_parallel/vocab_parallel_loss.h"

namespace megatron {
namespace {

// hidden is [s, b, h]: its collectives along the sequence are separate autograd nodes.
class VocabParallelLinearCrossEntropy
    : public torch::autograd::Function<VocabParallelLinearCrossEntropy> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& weight, const std::optional<at::Tensor>& main_grad,
                            const at::Tensor& targets, const VocabularyBlock& block,
                            const CrossEntropyParameters& parameters, int64_t chunk_columns,
                            const ProcessGroup* tp) {
    const LinearCrossEntropyInputs inputs{.x = flatten_rows(hidden),
                                          .weight = weight,
                                          .targets = targets.reshape({-1}).contiguous(),
                                          .block = block,
                                          .parameters = parameters,
                                          .chunk_columns = chunk_columns};
    CrossEntropyStatistics statistics = linear_cross_entropy_statistics(inputs);
    reduce_statistics(statistics, *tp, /*packed=*/true);
    ctx->save_for_backward({inputs.x, weight, inputs.targets, statistics.row_max, statistics.sums});
    // Not a saved variable: other micro-batches modify the buffer before this backward.
    ctx->saved_data["main_grad"] = main_grad.value_or(at::Tensor());
    ctx->saved_data["shape"] = hidden.sizes().vec();
    ctx->saved_data["start"] = block.start;
    ctx->saved_data["valid"] = block.valid;
    ctx->saved_data["vocab_size"] = parameters.vocab_size;
    ctx->saved_data["label_smoothing"] = parameters.label_smoothing;
    ctx->saved_data["logit_scale"] = parameters.logit_scale;
    ctx->saved_data["chunk_columns"] = chunk_columns;
    return cross_entropy_loss(statistics, parameters).view(targets.sizes());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto number = [&](const char* name) { return ctx->saved_data[name].toInt(); };
    const LinearCrossEntropyInputs inputs{
        .x = saved[0],
        .weight = saved[1],
        .targets = saved[2],
        .block = {number("start"), number("valid")},
        .parameters = {.vocab_size = number("vocab_size"),
                       .label_smoothing = ctx->saved_data["label_smoothing"].toDouble(),
                       .logit_scale = ctx->saved_data["logit_scale"].toDouble()},
        .chunk_columns = number("chunk_columns")};
    const auto gradients = linear_cross_entropy_gradients(
        inputs, {saved[3], saved[4]}, grads[0].reshape({-1}).contiguous(), ctx->needs_input_grad(0),
        ctx->needs_input_grad(1), ctx->saved_data["main_grad"].toTensor());
    at::Tensor grad_hidden = gradients.x;
    if (grad_hidden.defined())
      grad_hidden = grad_hidden.view(ctx->saved_data["shape"].toIntVector());
    return {grad_hidden, gradients.weight, {}, {}, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor vocab_parallel_linear_cross_entropy(const at::Tensor& hidden, const ParameterPtr& weight,
                                               const at::Tensor& targets, int64_t vocab_size,
                                               const ProcessGroup& tp,
                                               const LinearCrossEntropyOptions& options) {
  check(weight != nullptr, "Expected a weight for the linear cross-entropy, but got none");
  check(hidden.defined() && hidden.dim() == 3,
        "Expected hidden states of shape [s, b, h] for the linear cross-entropy, but got {}",
        hidden.defined() ? fmt::format("[{}]", fmt::join(hidden.sizes(), ", ")) : "none");
  const at::Tensor sequence = options.sequence_parallel
                                  ? gather_from_sequence_parallel_region(hidden, tp)
                                  : copy_to_tensor_model_parallel_region(hidden, tp);
  check_labels(targets, sequence.sizes().slice(0, 2), vocab_size);
  const CrossEntropyParameters parameters{.vocab_size = vocab_size,
                                          .label_smoothing = options.label_smoothing,
                                          .logit_scale = options.logit_scale};
  const auto block = vocabulary_block(weight->data.size(0), vocab_size, tp);
  return VocabParallelLinearCrossEntropy::apply(
      sequence, weight->data, checked_main_grad(weight->data, weight->main_grad), targets, block,
      parameters, options.chunk_columns, &tp);
}

}  // namespace megatron
