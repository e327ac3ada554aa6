// Decisions about --load and --save that depend on the contents of the folders.
#pragma once

#include <optional>
#include <string>

#include "megatron/config/model/training_config.h"

namespace megatron {

// Whether the run loads a checkpoint. A job that saves to the folder that it loads from is started
// with the same command every time, so an empty or missing folder then means a first start, unless
// --exit-on-missing-checkpoint is given.
// Elsewhere true whenever --load is given: a missing checkpoint is an error of the reader.
bool loads_checkpoint(const CheckpointConfig& config);

// --finetune starts at iteration 1 again. Throws Error where --save names the folder of --load, or
// one that holds checkpoints: their iterations would be overwritten and the tracker file set back.
void check_finetune_folders(const CheckpointConfig& config);

// A line for a run that starts behind the last checkpoint in its --save folder: which it will
// replace. Empty otherwise.
std::optional<std::string> checkpoints_to_replace(const CheckpointConfig& config,
                                                  int64_t first_iteration);

}  // namespace megatron
