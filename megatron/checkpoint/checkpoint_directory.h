// The directory of checkpoints and its atomic updates:
//
//   <root>/latest_checkpointed_iteration.txt    iteration of the latest checkpoint (the tracker)
//   <root>/iter_0000123/index.json              tensors and their shards
//   <root>/iter_0000123/shard-00002-of-00004.safetensors    tensors of rank 2 of 4
//   <root>/iter_0000123.tmp-1a2b3c4d/           unfinished save
//   <root>/iter_0000123.replaced/               old checkpoint while its iteration is saved again
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace megatron {

inline constexpr const char* kTrackerFile = "latest_checkpointed_iteration.txt";
inline constexpr const char* kIndexFile = "index.json";

std::string iteration_directory_name(int64_t iteration);  // iter_0000123
std::string shard_file_name(int rank, int world_size);    // shard-00002-of-00004.safetensors

// Whether two paths name the same folder, which need not exist: symbolic links are resolved, and a
// trailing slash does not matter. An empty path names none.
bool is_same_folder(const std::filesystem::path& left, const std::filesystem::path& right);

// The iteration in the tracker file of `root`; empty if there is no tracker. Throws Error if the
// tracker does not hold a number.
std::optional<int64_t> latest_iteration(const std::filesystem::path& root);

// The iterations with a checkpoint under `root`, sorted.
std::vector<int64_t> stored_iterations(const std::filesystem::path& root);

// The directory with the index: `path` itself if it is a checkpoint, else that of `iteration`, by
// default the tracker's. Throws Error with the existing iterations if there is none.
std::filesystem::path find_checkpoint(const std::filesystem::path& path,
                                      std::optional<int64_t> iteration = std::nullopt);

// Cleans up after interrupted saves: removes temporary directories, and restores a replaced
// checkpoint whose successor is missing. No save may be running.
void clean_interrupted_saves(const std::filesystem::path& root);

// Creates `root` and a temporary directory for the iteration in it.
std::filesystem::path make_temporary_directory(const std::filesystem::path& root,
                                               int64_t iteration);

// Renames a complete temporary directory to its final name, durably. An existing checkpoint of the
// iteration is renamed first and removed afterwards, so one of the two is complete at any moment.
void publish_directory(const std::filesystem::path& root, int64_t iteration,
                       const std::filesystem::path& temporary);

void write_tracker(const std::filesystem::path& root, int64_t iteration);

}  // namespace megatron
