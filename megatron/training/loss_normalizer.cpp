#include "megatron/training/loss_normalizer.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace megatron {
namespace {

at::TensorOptions cpu_double() {
  return at::TensorOptions().dtype(at::kDouble);
}

}  // namespace

at::Tensor masked_loss_sum(const at::Tensor& token_losses, const at::Tensor& loss_mask) {
  return (token_losses * loss_mask.to(token_losses.scalar_type())).sum();
}

LossNormalizer::LossNormalizer(const TransformerConfig& config,
                               const std::vector<MicroBatch>& microbatches, BatchSharing sharing,
                               const ProcessGroupCollection& groups, double loss_scale)
    : config_(config),
      groups_(groups),
      shares_rows_(sharing == BatchSharing::rows),
      loss_scale_(loss_scale),
      sums_(at::zeros({3}, cpu_double())) {
  const int64_t count = std::ssize(microbatches), depths = config.mtp.mtp_num_layers;
  const bool share_rows = sharing == BatchSharing::rows;
  microbatches_of_all_ranks_ = double(share_rows ? count : count * groups.dp->size());
  tokens_ = at::zeros({count, 1 + depths}, cpu_double());
  for (int64_t i = 0; i < count; ++i) {
    if (microbatches[i].loss_mask.defined())
      tokens_[i] = tokens_by_depth(microbatches[i].loss_mask, depths);
  }
  if (share_rows) groups.dp->all_reduce(tokens_);
  if (depths == 0) return;
  // With one mean over all tokens, the weight of a depth depends on the tokens of all
  // micro-batches.
  at::Tensor step_tokens = tokens_.sum(0);
  if (config.calculate_per_token_loss && !share_rows) groups.dp->all_reduce(step_tokens);
  for (int64_t i = 0; i < count; ++i) {
    std::vector<double> weights =
        mtp_loss_weights(config, config.calculate_per_token_loss ? step_tokens : tokens_[i],
                         microbatches_of_all_ranks_);
    for (double& weight : weights) weight *= loss_scale_;
    mtp_.push_back({.weights = std::move(weights)});
  }
}

MtpLossRecord* LossNormalizer::mtp_record(int64_t microbatch) {
  return mtp_.empty() ? nullptr : &mtp_[microbatch];
}

double LossNormalizer::tokens_of_step() const {
  const at::Tensor tokens = tokens_.select(1, 0).sum().view({1});
  if (!shares_rows_) groups_.dp->all_reduce(tokens);
  groups_.pp->broadcast(tokens, groups_.pp->size() - 1);
  return tokens.item<double>();
}

double LossNormalizer::divisor(int64_t microbatch) const {
  if (config_.calculate_per_token_loss) return 1.0;
  return std::max(tokens_[microbatch][0].item<double>(), 1.0) * microbatches_of_all_ranks_;
}

at::Tensor LossNormalizer::add(int64_t microbatch, const at::Tensor& token_losses,
                               const at::Tensor& loss_mask) {
  const at::Tensor sum = masked_loss_sum(token_losses, loss_mask);
  const double value = sum.item<double>(), over = divisor(microbatch);
  sums_[0] += value / over;
  sums_[1] += value;
  sums_[2] += loss_mask.sum(at::kDouble).item<double>();
  const at::Tensor mean = sum / over;
  return loss_scale_ == 1 ? mean : mean * loss_scale_;
}

StepLosses LossNormalizer::reduce() {
  groups_.dp_cp->all_reduce(sums_);
  groups_.pp->broadcast(sums_, groups_.pp->size() - 1);
  StepLosses losses;
  losses.loss = sums_[1].item<double>() / std::max(sums_[2].item<double>(), 1.0);
  losses.objective = config_.calculate_per_token_loss ? losses.loss : sums_[0].item<double>();
  if (!mtp_.empty()) reduce_mtp(losses);
  return losses;
}

double LossNormalizer::gradient_scale() const {
  return config_.calculate_per_token_loss ? 1.0 / std::max(sums_[2].item<double>(), 1.0) : 1.0;
}

void LossNormalizer::reduce_mtp(StepLosses& losses) const {
  const int64_t depths = tokens_.size(1) - 1;
  // By depth: mean of means, summed losses, tokens, tokens whose label was the likeliest.
  at::Tensor sums = at::zeros({4, depths}, cpu_double());
  for (size_t i = 0; i < mtp_.size(); ++i) {
    if (!mtp_[i].loss_sum.defined()) continue;  // not on the last stage
    const at::Tensor loss_sum = mtp_[i].loss_sum.cpu();
    const at::Tensor counts = tokens_[int64_t(i)].narrow(0, 1, depths).clamp_min(1);
    sums[0] += loss_sum / (counts * microbatches_of_all_ranks_);
    sums[1] += loss_sum;
    sums[2] += mtp_[i].tokens.cpu();
    sums[3] += mtp_[i].correct.cpu();
  }
  groups_.dp_cp->all_reduce(sums);
  groups_.pp->broadcast(sums, groups_.pp->size() - 1);
  for (int64_t depth = 0; depth < depths; ++depth) {
    const auto sum = [&](int64_t what) { return sums[what][depth].item<double>(); };
    const double tokens = std::max(sum(2), 1.0);
    losses.mtp.push_back(
        {.loss = sum(1) / tokens, .tokens = sum(2), .acceptance_rate = 100.0 * sum(3) / tokens});
    losses.mtp_microbatch_means.push_back(sum(0));
  }
}

}  // namespace megatron
