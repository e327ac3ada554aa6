#include "megatron/training/train_step.h"

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/pipeline/executor.h"

namespace megatron {

TrainStep::TrainStep(std::shared_ptr<GPTModel> model, const Options& options)
    : model_(std::move(model)),
      seed_(options.training.seed),
      per_token_(options.model.transformer.calculate_per_token_loss),
      parameters_(model_->parameters()),
      gradients_(parameters_, options.ddp, model_->groups().dp_cp->size()),
      optimizer_(options.optimizer, parameters_, model_->groups(),
                 options.model.transformer.mup_width_mult()) {}

ForwardContext TrainStep::forward_context(const MicroBatch& microbatch, bool training) const {
  const ProcessGroup& tp = *model_->groups().tp;
  return ForwardContext::make(training, seed_, microbatch.sample_ordinals,
                              microbatch.tokens.size(1),
                              model_->config().transformer.sequence_parallel, tp.rank(), tp.size());
}

at::Tensor TrainStep::loss_sum(const MicroBatch& microbatch, const at::Tensor& token_losses) const {
  return (token_losses * microbatch.loss_mask.to(token_losses.scalar_type())).sum();
}

template <typename Finish>
void TrainStep::run_microbatches(const std::vector<MicroBatch>& microbatches, bool training,
                                 const Finish& finish) {
  check(!microbatches.empty(), "Expected at least one micro-batch, but got none");
  const ProcessGroup& pp = *model_->groups().pp;
  const auto count = static_cast<int64_t>(microbatches.size());
  const TransformerConfig& config = model_->config().transformer;
  const at::Tensor& tokens = microbatches[0].tokens;
  const int64_t sequence =
      config.sequence_parallel ? tokens.size(1) / model_->groups().tp->size() : tokens.size(1);
  const ActivationShape activation{{sequence, tokens.size(0), config.hidden_size},
                                   model_->activation_options()};
  const at::AutoGradMode grad_mode(training);
  run_schedule(
      training ? one_forward_one_backward(pp.rank(), pp.size(), count) : forward_only(count), pp,
      activation, [&](int64_t index, const at::Tensor& input) {
        const MicroBatch& microbatch = microbatches[index];
        if (input.defined()) model_->set_input_tensor(input);
        const at::Tensor output = model_->forward({.input_ids = microbatch.tokens,
                                                   .position_ids = microbatch.position_ids,
                                                   .attention_mask = microbatch.attention_mask,
                                                   .labels = microbatch.labels},
                                                  forward_context(microbatch, training));
        return model_->stage().post_process ? finish(index, output) : output;
      });
}

double TrainStep::forward_backward(const std::vector<MicroBatch>& microbatches,
                                   BatchSharing sharing) {
  const ProcessGroupCollection& groups = model_->groups();
  const ProcessGroup& dp = *groups.dp_cp;
  const at::TensorOptions cpu_double = at::TensorOptions().dtype(at::kDouble);
  const auto count = static_cast<int64_t>(microbatches.size());

  gradients_.zero();
  // Tokens that count, by micro-batch: those of all ranks where the ranks share its rows.
  at::Tensor tokens = at::zeros({count}, cpu_double);
  for (int64_t i = 0; i < count; ++i)
    tokens[i] = microbatches[i].loss_mask.sum(at::kDouble).item<double>();
  if (sharing == BatchSharing::rows) dp.all_reduce(tokens);

  const int64_t microbatches_of_all_ranks =
      sharing == BatchSharing::rows ? count : count * dp.size();
  at::Tensor sums = at::zeros({2}, cpu_double);  // of losses, and of tokens
  run_microbatches(microbatches, /*training=*/true, [&](int64_t i, const at::Tensor& token_losses) {
    const at::Tensor sum = loss_sum(microbatches[i], token_losses);
    // Gradients are summed, not averaged, over the data-parallel ranks, so that the divisor is the
    // whole one.
    const double divisor =
        per_token_ ? 1.0
                   : std::max(tokens[i].item<double>(), 1.0) * double(microbatches_of_all_ranks);
    sums[0] += sum.item<double>() / divisor;
    sums[1] += microbatches[i].loss_mask.sum(at::kDouble).item<double>();
    return sum / divisor;
  });

  gradients_.all_reduce(dp);
  finalize_shared_gradients(parameters_, groups);
  dp.all_reduce(sums);
  groups.pp->broadcast(sums, groups.pp->size() - 1);
  if (!per_token_) return sums[0].item<double>();
  const double all_tokens = std::max(sums[1].item<double>(), 1.0);
  gradients_.scale(1.0 / all_tokens);
  return sums[0].item<double>() / all_tokens;
}

TrainStep::Result TrainStep::run(const std::vector<MicroBatch>& microbatches, BatchSharing sharing,
                                 double learning_rate) {
  const double loss = forward_backward(microbatches, sharing);
  const Optimizer::StepResult stepped = optimizer_.step(learning_rate);
  return {.loss = loss, .grad_norm = stepped.grad_norm, .skipped = stepped.skipped};
}

TrainStep::Evaluation TrainStep::evaluate(const std::vector<MicroBatch>& microbatches) {
  at::Tensor sums = at::zeros({2}, at::TensorOptions().dtype(at::kDouble));
  run_microbatches(microbatches, /*training=*/false,
                   [&](int64_t i, const at::Tensor& token_losses) {
                     sums[0] += loss_sum(microbatches[i], token_losses).item<double>();
                     sums[1] += microbatches[i].loss_mask.sum(at::kDouble).item<double>();
                     return token_losses;
                   });
  const ProcessGroupCollection& groups = model_->groups();
  groups.dp_cp->all_reduce(sums);
  groups.pp->broadcast(sums, groups.pp->size() - 1);
  return {sums[0].item<double>(), sums[1].item<double>()};
}

}  // namespace megatron
