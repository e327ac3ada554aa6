#include "megatron/models/common/multi_token_prediction_loss.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/ops/loss/attached_loss.h"
#include "megatron/transformer/roll_left.h"

namespace megatron {

at::Tensor tokens_by_depth(const at::Tensor& loss_mask, int64_t depths,
                           const std::optional<PackedSeqParams>& packed_seq_params,
                           const ProcessGroup* cp) {
  std::vector<at::Tensor> counts = {loss_mask.sum(at::kDouble)};
  at::Tensor mask = loss_mask;
  for (int64_t depth = 1; depth <= depths; ++depth) {
    mask = roll_left(mask, packed_seq_params, cp);
    counts.push_back(mask.sum(at::kDouble));
  }
  const at::Tensor all_counts = at::stack(counts);
  if (cp != nullptr) cp->all_reduce(all_counts);
  return all_counts.cpu();
}

std::vector<double> mtp_loss_weights(const TransformerConfig& config, const at::Tensor& tokens,
                                     double microbatches) {
  const int64_t depths = tokens.size(0) - 1;
  const double factor = config.mtp.mtp_loss_scaling_factor / double(depths);
  const auto counts = tokens.accessor<double, 1>();
  std::vector<double> weights;
  for (int64_t depth = 1; depth <= depths; ++depth) {
    const double mean_weight = factor / std::max(counts[depth], 1.0);
    weights.push_back(mean_weight *
                      (config.calculate_per_token_loss ? counts[0] : 1.0 / microbatches));
  }
  return weights;
}

at::Tensor process_mtp_loss(at::Tensor hidden_states,
                            const std::vector<at::Tensor>& mtp_hidden_states,
                            const MtpTargets& targets, const OutputHead& head,
                            const TransformerConfig& config, MtpLossRecord* record) {
  const auto rolled = [&](const at::Tensor& tokens) {
    return roll_left(tokens, targets.packed_seq_params, targets.cp.get());
  };
  at::Tensor labels = targets.labels, mask = targets.loss_mask;
  if (!mask.defined()) mask = at::ones(targets.input_ids.sizes(), hidden_states.options());
  if (!labels.defined()) {
    // The label of the last token is unknown: mask it.
    labels = rolled(targets.input_ids);
    mask = rolled(mask);
  }
  const auto depths = static_cast<int64_t>(mtp_hidden_states.size());
  const std::vector<double> weights =
      record != nullptr && !record->weights.empty()
          ? record->weights
          : mtp_loss_weights(
                config, tokens_by_depth(mask, depths, targets.packed_seq_params, targets.cp.get()),
                /*microbatches=*/1);
  check(weights.size() == mtp_hidden_states.size(),
        "Expected a loss weight for each of the {} MTP depths, but got {}", depths, weights.size());
  std::vector<at::Tensor> loss_sums, counts, corrects;
  for (int64_t depth = 0; depth < depths; ++depth) {
    labels = rolled(labels);
    mask = rolled(mask);
    const auto [losses, argmax] = head(mtp_hidden_states[depth], labels);
    const at::Tensor loss_sum = (losses * mask.to(losses.scalar_type())).sum();
    hidden_states = attach_loss(hidden_states, loss_sum, weights[depth]);
    if (record == nullptr) continue;
    loss_sums.push_back(loss_sum.detach().to(at::kDouble));
    counts.push_back(mask.sum(at::kDouble));
    corrects.push_back(argmax.eq(labels).logical_and(mask.ne(0)).sum(at::kDouble));
  }
  if (record != nullptr) {
    record->loss_sum = at::stack(loss_sums);
    record->tokens = at::stack(counts);
    record->correct = at::stack(corrects);
  }
  return hidden_states;
}

}  // namespace megatron
