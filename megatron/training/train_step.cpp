#include "megatron/training/train_step.h"

#include <ATen/record_function.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/data_parallel/shared_gradients.h"
#include "megatron/pipeline/executor.h"

namespace megatron {
namespace {

std::vector<ParameterPtr> trained(std::vector<ParameterPtr> parameters) {
  std::erase_if(parameters, [](const ParameterPtr& p) { return !p->data.requires_grad(); });
  return parameters;
}

}  // namespace

TrainStep::TrainStep(std::shared_ptr<GPTModel> model, const Options& options)
    : model_(std::move(model)),
      seed_(options.training.seed),
      per_token_(options.model.transformer.calculate_per_token_loss),
      parameters_(trained(model_->parameters())),
      data_parallel_(model_->parts(), options.ddp, model_->groups().dp_cp),
      optimizer_(options.optimizer, {&data_parallel_}, model_->groups(),
                 options.model.transformer.mup_width_mult()) {}

ForwardContext TrainStep::forward_context(const MicroBatch& microbatch, bool training) const {
  const ProcessGroup &tp = *model_->groups().tp, &cp = *model_->groups().cp;
  return ForwardContext::make(training, seed_, microbatch.sample_ordinals,
                              token_positions(microbatch.tokens.size(1) * cp.size(), cp),
                              model_->config().transformer.sequence_parallel, tp.rank(), tp.size());
}

std::vector<MicroBatch> TrainStep::own_parts(const std::vector<MicroBatch>& whole) const {
  std::vector<MicroBatch> parts;
  for (const MicroBatch& microbatch : whole)
    parts.push_back(context_parallel_part(microbatch, *model_->groups().cp));
  return parts;
}

at::Tensor TrainStep::loss_sum(const MicroBatch& microbatch, const at::Tensor& token_losses) const {
  return (token_losses * microbatch.loss_mask.to(token_losses.scalar_type())).sum();
}

template <typename Finish>
void TrainStep::run_microbatches(const std::vector<MicroBatch>& microbatches, bool training,
                                 std::vector<MtpLossRecord>& mtp, const Finish& finish) {
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
        RECORD_USER_SCOPE(fmt::format("forward of micro-batch {}", index));
        const MicroBatch& microbatch = microbatches[index];
        if (input.defined()) model_->set_input_tensor(input);
        const at::Tensor output =
            model_->forward({.input_ids = microbatch.tokens,
                             .position_ids = microbatch.position_ids,
                             .attention_mask = microbatch.attention_mask,
                             .labels = microbatch.labels,
                             .loss_mask = microbatch.loss_mask,
                             .mtp_record = mtp.empty() ? nullptr : &mtp[index]},
                            forward_context(microbatch, training));
        const at::Tensor result = model_->stage().post_process ? finish(index, output) : output;
        if (training && index + 1 == count) data_parallel_.reduce_with_backward_of(result);
        return result;
      });
}

TrainStep::Losses TrainStep::forward_backward(const std::vector<MicroBatch>& whole,
                                              BatchSharing sharing) {
  const ProcessGroupCollection& groups = model_->groups();
  const TransformerConfig& config = model_->config().transformer;
  const ProcessGroup& dp_cp = *groups.dp_cp;
  const std::vector<MicroBatch> microbatches = own_parts(whole);
  const at::TensorOptions cpu_double = at::TensorOptions().dtype(at::kDouble);
  const auto count = static_cast<int64_t>(microbatches.size());

  data_parallel_.zero_gradients();
  // Tokens that count, by micro-batch and depth (0: the main loss), of whole sequences: those of
  // all ranks where the ranks share its rows.
  const int64_t depths = config.mtp.mtp_num_layers;
  at::Tensor tokens = at::zeros({count, depths + 1}, cpu_double);
  for (int64_t i = 0; i < count; ++i) tokens[i] = tokens_by_depth(whole[i].loss_mask, depths);
  if (sharing == BatchSharing::rows) groups.dp->all_reduce(tokens);

  // Gradients are summed, not averaged, over the data- and context-parallel ranks, so that divisors
  // are the whole ones.
  const auto microbatches_of_all_ranks =
      double(sharing == BatchSharing::rows ? count : count * groups.dp->size());
  std::vector<MtpLossRecord> mtp;
  for (int64_t i = 0; i < count && depths > 0; ++i)
    mtp.push_back({.weights = mtp_loss_weights(config, tokens[i], microbatches_of_all_ranks)});
  at::Tensor sums = at::zeros({2}, cpu_double);  // of losses, and of tokens
  run_microbatches(
      microbatches, /*training=*/true, mtp, [&](int64_t i, const at::Tensor& token_losses) {
        const at::Tensor sum = loss_sum(microbatches[i], token_losses);
        const double divisor =
            per_token_ ? 1.0
                       : std::max(tokens[i][0].item<double>(), 1.0) * microbatches_of_all_ranks;
        sums[0] += sum.item<double>() / divisor;
        sums[1] += microbatches[i].loss_mask.sum(at::kDouble).item<double>();
        return sum / divisor;
      });

  model_->compute_deferred_weight_gradients();
  data_parallel_.finish_gradients();
  finalize_shared_gradients(data_parallel_.owned_parts(), groups);
  dp_cp.all_reduce(sums);
  groups.pp->broadcast(sums, groups.pp->size() - 1);
  double divisor = 1.0;
  if (per_token_) {
    divisor = std::max(sums[1].item<double>(), 1.0);
    data_parallel_.scale_gradients(1.0 / divisor);
  }
  return {sums[0].item<double>() / divisor, reduced(mtp, tokens, microbatches_of_all_ranks)};
}

std::vector<MtpRecord> TrainStep::reduced(const std::vector<MtpLossRecord>& mtp,
                                          const at::Tensor& tokens,
                                          double microbatches_of_all_ranks) const {
  if (mtp.empty()) return {};
  const int64_t depths = tokens.size(1) - 1;
  at::Tensor sums = at::zeros({3, depths}, at::TensorOptions().dtype(at::kDouble));
  for (size_t i = 0; i < mtp.size() && model_->stage().post_process; ++i) {
    const at::Tensor counts = tokens[i].narrow(0, 1, depths).clamp_min(1);
    sums[0] += mtp[i].loss_sum.cpu() / (counts * microbatches_of_all_ranks);
    sums[1] += mtp[i].tokens.cpu();
    sums[2] += mtp[i].correct.cpu();
  }
  const ProcessGroupCollection& groups = model_->groups();
  groups.dp_cp->all_reduce(sums);
  groups.pp->broadcast(sums, groups.pp->size() - 1);
  std::vector<MtpRecord> records;
  for (int64_t depth = 0; depth < depths; ++depth) {
    const double counted = sums[1][depth].item<double>();
    records.push_back(
        {.loss = sums[0][depth].item<double>(),
         .tokens = counted,
         .acceptance_rate = 100.0 * sums[2][depth].item<double>() / std::max(counted, 1.0)});
  }
  return records;
}

TrainStep::Result TrainStep::run(const std::vector<MicroBatch>& microbatches, BatchSharing sharing,
                                 double learning_rate) {
  Losses losses = forward_backward(microbatches, sharing);
  const Optimizer::StepResult stepped = optimize(learning_rate);
  return {std::move(losses), stepped.grad_norm, stepped.skipped};
}

Optimizer::StepResult TrainStep::optimize(double learning_rate) {
  RECORD_USER_SCOPE("optimizer");
  return optimizer_.step(learning_rate);
}

TrainStep::Evaluation TrainStep::evaluate(const std::vector<MicroBatch>& whole) {
  const std::vector<MicroBatch> microbatches = own_parts(whole);
  at::Tensor sums = at::zeros({2}, at::TensorOptions().dtype(at::kDouble));
  std::vector<MtpLossRecord> no_mtp;
  run_microbatches(microbatches, /*training=*/false, no_mtp,
                   [&](int64_t i, const at::Tensor& token_losses) {
                     sums[0] += loss_sum(microbatches[i], token_losses).item<double>();
                     sums[1] += microbatches[i].loss_mask.sum(at::kDouble).item<double>();
                     return token_losses;
                   });
  data_parallel_.release_parameters();
  const ProcessGroupCollection& groups = model_->groups();
  groups.dp_cp->all_reduce(sums);
  groups.pp->broadcast(sums, groups.pp->size() - 1);
  return {sums[0].item<double>(), sums[1].item<double>()};
}

}  // namespace megatron
