// The training loop of one rank: data, steps, evaluation, checkpoints, log.
#pragma once

#include "megatron/config/options/options.h"
#include "megatron/parallel/rank_context.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Collective over the world; `options` are validated for it and the same on every rank. `tokenizer`
// may be null (bits per byte are not told then). Returns the exit status: 0 where the run reached
// train_iters, or was asked to stop (exit interval, duration, SIGTERM) and saved. Throws Error
// otherwise, for example when the loss is not a number; the last checkpoint stays as it is.
int run_training(const Options& options, const Tokenizer* tokenizer, const RankContext& rank);

}  // namespace megatron
