// The training loop of one rank: data, steps, evaluation, checkpoints and the log.
#pragma once

#include <string>
#include <vector>

#include "megatron/config/options/options.h"
#include "megatron/parallel/rank_context.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Collective over the world. `options` must be validated and equal on all ranks. Without a
// `tokenizer` (null) no bits per byte are reported. The log begins with `notes`. Returns the exit
// status: 0 after train_iters or train_samples, or after a requested stop (exit interval, duration,
// SIGTERM) and its checkpoint. Throws Error otherwise, for example for a loss that is not finite; the
// last checkpoint stays as it is.
int run_training(const Options& options, const Tokenizer* tokenizer, const RankContext& rank,
                 const std::vector<std::string>& notes = {});

}  // namespace megatron
