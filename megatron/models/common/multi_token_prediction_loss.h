// MTP losses: masked, weighted, and attached to the decoder's hidden states (Megatron
// core/transformer/multi_token_prediction.py, process_mtp_loss).
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/config/model/transformer_config.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/transformer/packed_seq_params.h"

namespace megatron {

// MTP loss weights and statistics of one micro-batch. D: depths.
struct MtpLossRecord {
  // Input: gradient of each depth's loss sum, [D]. Empty: the weights of this micro-batch alone.
  std::vector<double> weights;
  // Output over this rank's rows, each [D] fp64: loss sum in nats, unmasked tokens, and unmasked
  // tokens whose label has the largest logit.
  at::Tensor loss_sum, tokens, correct;
};

// Unmasked tokens of the main loss and of depths 1 to D, whose masks are `loss_mask` [b, s] rolled
// left once per depth: [D + 1] fp64 on the CPU. With `cp`, `loss_mask` [b, s/cp] is this rank's
// shard, and counts are summed over the group.
at::Tensor tokens_by_depth(const at::Tensor& loss_mask, int64_t depths,
                           const std::optional<PackedSeqParams>& packed_seq_params = {},
                           const ProcessGroup* cp = nullptr);

// MTP loss weights of a micro-batch with the counts `tokens` of tokens_by_depth. The main loss is a
// mean of micro-batch means, so a depth's weight is mtp_loss_scaling_factor / D / (tokens of the
// depth x `microbatches`). With calculate_per_token_loss the step later divides all gradients by
// the main loss's tokens, so the weight is mtp_loss_scaling_factor / D x (main tokens / tokens of
// the depth).
std::vector<double> mtp_loss_weights(const TransformerConfig& config, const at::Tensor& tokens,
                                     double microbatches);

struct MtpTargets {
  at::Tensor input_ids;  // [b, s]
  at::Tensor labels;     // [b, s]; undefined: the ids rolled left
  at::Tensor loss_mask;  // [b, s]; undefined: all ones
  std::optional<PackedSeqParams> packed_seq_params;
  ProcessGroupPtr cp;  // may be null
};

// The output layer's results for hidden states [s, b, h] and labels [b, s].
struct HeadOutput {
  at::Tensor losses;  // [b, s] nats
  at::Tensor argmax;  // [b, s] ids of the largest logits; undefined without a record
};
using OutputHead =
    std::function<HeadOutput(const at::Tensor& hidden_states, const at::Tensor& labels)>;

// Returns the decoder's `hidden_states` [s, b, h] unchanged; in backward, the masked loss sum of
// each depth receives its weight as gradient. `mtp_hidden_states` has the same shape, by depth. At
// depth d the labels and the mask are rolled left d times; a depth without unmasked tokens gets no
// gradient.
at::Tensor process_mtp_loss(at::Tensor hidden_states,
                            const std::vector<at::Tensor>& mtp_hidden_states,
                            const MtpTargets& targets, const OutputHead& head,
                            const TransformerConfig& config, MtpLossRecord* record);

}  // namespace megatron
