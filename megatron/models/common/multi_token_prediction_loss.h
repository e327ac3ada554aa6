// The losses of multi-token prediction: masked, weighted, and attached to the main hidden states
// (Megatron core/transformer/multi_token_prediction.py, process_mtp_loss).
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/config/model/transformer_config.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/transformer/packed_seq_params.h"

namespace megatron {

// What a micro-batch is to be weighted with, and what came of it. D: depths.
struct MtpLossRecord {
  // In: what the sum of a depth's losses is multiplied with in backward, by depth. Empty: the
  // weights of this micro-batch alone.
  std::vector<double> weights;
  // Out, over the rows of this rank, each [D] fp64: losses in nats, tokens that count, and those
  // among them whose label was the likeliest token.
  at::Tensor loss_sum, tokens, correct;
};

// Tokens that count: of the main loss, then at depth 1, 2, ... D, where the mask [b, s] is rolled
// left once a depth. [D + 1] fp64 on the CPU. With `cp` the mask [b, s/cp] is this rank's part, and
// the counts are those of all ranks.
at::Tensor tokens_by_depth(const at::Tensor& loss_mask, int64_t depths,
                           const std::optional<PackedSeqParams>& packed_seq_params = {},
                           const ProcessGroup* cp = nullptr);

// The weights of a micro-batch with the counts of tokens_by_depth: mtp_loss_scaling_factor / D over
// the tokens of the depth and over `microbatches`, as the main loss is a mean of means. With one
// mean over all tokens of the step the main loss divides later, by its own count: then the factor /
// D times the share of the main loss's tokens that the depth has lost.
std::vector<double> mtp_loss_weights(const TransformerConfig& config, const at::Tensor& tokens,
                                     double microbatches);

struct MtpTargets {
  at::Tensor input_ids;  // [b, s]
  at::Tensor labels;     // [b, s]; undefined: the ids rolled left
  at::Tensor loss_mask;  // [b, s]; undefined: every token counts
  std::optional<PackedSeqParams> packed_seq_params;
  ProcessGroupPtr cp;  // who shares the sequence, or null
};

// What the output layer makes of hidden states [s, b, h] beside labels [b, s].
struct HeadOutput {
  at::Tensor losses;     // [b, s] nats
  at::Tensor likeliest;  // [b, s] ids; undefined where nobody keeps a record
};
using OutputHead =
    std::function<HeadOutput(const at::Tensor& hidden_states, const at::Tensor& labels)>;

// hidden_states [s, b, h] of the decoder and `predictions` of the same shape by depth -> the hidden
// states as they are. In backward each depth's masked losses get their weights as gradients; a
// depth without tokens gets none. At depth d the labels and the mask are rolled left d times.
at::Tensor process_mtp_loss(at::Tensor hidden_states, const std::vector<at::Tensor>& predictions,
                            const MtpTargets& targets, const OutputHead& head,
                            const TransformerConfig& config, MtpLossRecord* record);

}  // namespace megatron
