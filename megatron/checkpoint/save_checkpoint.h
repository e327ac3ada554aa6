// Saves a sharded state dict as a checkpoint that any layout can load (see checkpoint_directory.h
// for the files). Every rank writes its own shard; a crash at any moment leaves the earlier
// checkpoint whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include <nlohmann/json_fwd.hpp>

#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// The steps of a save, each announced before it begins.
enum class SaveStage { plan, shard, index, publish, tracker };

struct SaveOptions {
  // Called on every rank (index, publish and tracker on the first only). An exception from it fails
  // the save.
  std::function<void(SaveStage)> on_stage;
};

struct SavedCheckpoint {
  std::filesystem::path directory;
  int64_t bytes = 0;  // of all shards
};

// Makes the folder and writes and removes a file in it, so that a run does not train for what it
// cannot save. Every rank writes, so every rank asks. Throws Error saying why it cannot.
void check_can_save(const std::filesystem::path& root, const ProcessGroup& world);

// Collective over `world`, whose ranks all see the folder `root`. Tensors with replica_id 0 are
// written; over all ranks they must hold every element of every key once. `common` is the first
// rank's: what is not a tensor. Saving an iteration again replaces it. Temporary folders of
// interrupted saves are removed.
//
// Throws Error on every rank where one of them fails (no space left, a wrong chunk), naming that
// rank and the cause; then the temporary folder is gone and the earlier checkpoint is as it was.
SavedCheckpoint save_checkpoint(const std::filesystem::path& root, int64_t iteration,
                                const ShardedStateDict& state, const nlohmann::json& common,
                                const ProcessGroup& world, const SaveOptions& options = {});

}  // namespace megatron
