// Saves a sharded state dict as a checkpoint that any layout can load; checkpoint_directory.h shows
// the files. Every rank writes its own shard. A crash at any moment leaves the previous checkpoint
// intact.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include <nlohmann/json_fwd.hpp>

#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// Stages of a save.
enum class SaveStage { plan, shard, index, publish, tracker };

struct SaveOptions {
  // Called before each stage, on every rank (index, publish and tracker: on the first rank only).
  // An exception makes the save fail.
  std::function<void(SaveStage)> on_stage;
  // Called on the first rank with the temporary directory, before the index is written: adds files
  // beside those of the checkpoint, which must be synced.
  std::function<void(const std::filesystem::path& directory)> add_files = {};
};

struct SavedCheckpoint {
  std::filesystem::path directory;
  int64_t bytes = 0;  // total of all shards
};

// Creates the directory and writes a test file in it, so that a run fails before training instead
// of at its first save. Every rank calls this. Throws Error with the reason.
void check_can_save(const std::filesystem::path& root, const ProcessGroup& world);

// Collective over `world`; all ranks must see the directory `root`. Writes the tensors with
// replica_id 0, which over all ranks must cover every element of every key exactly once. `common`
// is taken from the first rank. Replaces an existing checkpoint of the iteration, and removes
// temporary directories of interrupted saves.
//
// If a rank fails (no space left, an invalid chunk), throws Error with that rank and the reason on
// every rank. The temporary directory is then removed and the previous checkpoint unchanged.
SavedCheckpoint save_checkpoint(const std::filesystem::path& root, int64_t iteration,
                                const ShardedStateDict& state, const nlohmann::json& common,
                                const ProcessGroup& world, const SaveOptions& options = {});

}  // namespace megatron
