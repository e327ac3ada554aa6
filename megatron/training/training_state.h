// What a checkpoint holds: weights and optimizer state as sharded tensors, and the run's other
// facts as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/fingerprint.h"
#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/config/options/options.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/optimizer/optimizer.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// A run's position, apart from tensors.
struct TrainingProgress {
  int64_t iteration = 0;
  int64_t consumed_samples = 0;
};

// What the optimizer keeps, by the keys of the model's own state `weights`: masters
// (optimizer.state.param.<key>) where they are not the parameters themselves, and moments
// (optimizer.state.exp_avg.<key>, optimizer.state.exp_avg_sq.<key>).
ShardedStateDict sharded_state_dict(Optimizer& optimizer, const ShardedStateDict& weights);

// The model's own state `weights` as this rank writes and reads it: of sharded parameters, and of
// those whose update is shared out, the rank's slices.
ShardedStateDict owned_weights(Optimizer& optimizer, const ShardedStateDict& weights);

// The facts that decide whether two runs are bit-identical.
Fingerprint run_fingerprint(const Options& options, const RankContext& rank);

// Collective over the world.
void save_training_state(const Options& options, const RankContext& rank,
                         const GPTModelChunks& chunks, Optimizer& optimizer,
                         const TrainingProgress& progress, const std::string& tokenizer);

// Fills the parameters of the model's chunks. Throws Error where the checkpoint is of another
// architecture.
void load_weights(CheckpointReader& checkpoint, const Options& options,
                  const GPTModelChunks& chunks);

// load_weights, then optimizer and progress as --finetune and --no-load-optim ask. `note` is told
// in one line when the resumed run will not be bit-identical.
TrainingProgress load_training_state(const Options& options, const RankContext& rank,
                                     const GPTModelChunks& chunks, Optimizer& optimizer,
                                     const std::string& tokenizer,
                                     const std::function<void(const std::string&)>& note);

}  // namespace megatron
