// The state of a training run in a checkpoint: weights and optimizer state as sharded tensors, and
// the progress of the run as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/fingerprint.h"
#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/config/options/options.h"
#include "megatron/convert/source_record.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/optimizer/optimizer.h"
#include "megatron/parallel/rank_context.h"
#include "megatron/training/data_identity.h"

namespace megatron {

struct TrainingProgress {
  int64_t iteration = 0;
  int64_t consumed_samples = 0;
  int64_t scheduled_samples = 0;  // of steps that were not skipped, since the optimizer began
  DataIdentity data = {};         // the training samples of the run, on the first rank
  // Of the checkpoint; a configuration with its own replaces it.
  nlohmann::json extra_checkpoint_metadata = nullptr;
  // Of a model that came from another library; every checkpoint keeps it.
  std::optional<SourceRecord> source = {};
};

// Optimizer state under the keys of the model's state `weights`: masters
// (optimizer.state.param.<key>) where they are not the parameters themselves, and moments
// (optimizer.state.exp_avg.<key>, optimizer.state.exp_avg_sq.<key>).
ShardedStateDict sharded_state_dict(Optimizer& optimizer, const ShardedStateDict& weights);

// The model's state `weights` as this rank saves and loads it: with a sharded optimizer only the
// rank's slices, which are those that it updates.
ShardedStateDict owned_weights(Optimizer& optimizer, const ShardedStateDict& weights);

// What must be equal for two runs to be bit-identical.
Fingerprint run_fingerprint(const Options& options, const RankContext& rank);

// Collective over the world.
void save_training_state(const Options& options, const RankContext& rank,
                         const GPTModelChunks& chunks, Optimizer& optimizer,
                         const TrainingProgress& progress, const std::string& tokenizer);

// Loads the parameters of the model's chunks. Throws Error where the checkpoint's architecture is
// another.
void load_weights(CheckpointReader& checkpoint, const Options& options,
                  const GPTModelChunks& chunks);

// Loads weights, then optimizer state and progress unless --finetune or --no-load-optim leave them
// out. Calls `note` with a line where the resumed run will not be bit-identical. The progress holds
// the identity of the data that the checkpoint was trained on.
TrainingProgress load_training_state(const Options& options, const RankContext& rank,
                                     const GPTModelChunks& chunks, Optimizer& optimizer,
                                     const std::string& tokenizer,
                                     const std::function<void(const std::string&)>& note);

}  // namespace megatron
