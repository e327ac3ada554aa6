// Turns the summed token losses of a training step into the objective that backward differentiates
// and the means that are reported. None of them depends on how the ranks share the batch.
//
// Let L_i be the summed losses of micro-batch i, N_i its tokens that count (loss mask 1), and M_di
// those that count at depth d of D of multi-token prediction (MTP). All sums are over the ranks.
//   objective, default           1/I sum_i (L_i / N_i + factor/D sum_d L_di / M_di) over I batches
//   calculate_per_token_loss     sum L / sum N + factor/D sum_d (sum L_d / sum M_d)
//   reported, always             sum L / sum N, and sum L_d / sum M_d by depth (as Megatron logs)
#pragma once

#include <optional>
#include <vector>

#include "megatron/config/model/transformer_config.h"
#include "megatron/models/common/multi_token_prediction_loss.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/reporting/run_records.h"
#include "megatron/training/micro_batch.h"

namespace megatron {

// The losses of a step in nats, the same on every rank. MTP losses are by depth.
struct StepLosses {
  double loss = 0;             // summed loss over tokens that count
  std::vector<MtpRecord> mtp;  // likewise; not part of `loss`
  // The objective without MTP: the mean over micro-batches of their masked means, or `loss` with
  // calculate_per_token_loss.
  double objective = 0;
  // The mean over micro-batches of their masked means, as megatron-core's MTP metrics have it.
  std::vector<double> mtp_microbatch_means;
  std::vector<MoeLayerRecord> moe;  // layers with experts, in order
  std::optional<LowPrecisionRecord> low_precision = {};
};

class LossNormalizer {
 public:
  // `microbatches` hold full sequences, before context parallelism splits them. Stages that read
  // no data have no loss masks and may use nothing but reduce() and gradient_scale(). What backward
  // starts from is multiplied by `loss_scale`, reported losses are not. Collective over the
  // data-parallel group.
  LossNormalizer(const TransformerConfig& config, const std::vector<MicroBatch>& microbatches,
                 BatchSharing sharing, const ProcessGroupCollection& groups, double loss_scale = 1);

  // The record to pass to the model with a micro-batch: it holds the weights of the MTP losses.
  // Null without MTP.
  MtpLossRecord* mtp_record(int64_t microbatch);

  // Adds this rank's tokens of a micro-batch to the totals. token_losses and loss_mask are
  // [b, s_p]. Returns the scalar that backward starts from.
  at::Tensor add(int64_t microbatch, const at::Tensor& token_losses, const at::Tensor& loss_mask);

  // The micro-batches of all data-parallel ranks.
  double microbatches_of_all_ranks() const { return microbatches_of_all_ranks_; }
  // The tokens of the main loss in the step. Collective over dp and the pipeline.
  double tokens_of_step() const;

  // The losses of all micro-batches of all ranks, after the last add(). Collective over dp_cp and
  // the pipeline.
  StepLosses reduce();

  // What complete gradients have still to be multiplied by, after reduce().
  double gradient_scale() const;

 private:
  // What a micro-batch's summed losses are divided by before backward.
  double divisor(int64_t microbatch) const;
  void reduce_mtp(StepLosses& losses) const;

  const TransformerConfig& config_;
  const ProcessGroupCollection& groups_;
  bool shares_rows_;
  double loss_scale_;
  double microbatches_of_all_ranks_;
  at::Tensor tokens_;  // [micro-batches, 1 + D] fp64 on the CPU: N_i, then M_di
  std::vector<MtpLossRecord> mtp_;
  at::Tensor sums_;  // [3] fp64: of L_i / divisor(i), of L_i, of N_i
};

// The masked sum of token losses, in their dtype.
at::Tensor masked_loss_sum(const at::Tensor& token_losses, const at::Tensor& loss_mask);

}  // namespace megatron
