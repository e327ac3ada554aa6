// Names of a checkpoint's files and folders, the tracker file, and how a checkpoint appears at its
// place:
//
//   <root>/latest_checkpointed_iteration.txt    the last whole checkpoint's iteration (Megatron's
//   tracker) <root>/iter_0000123/index.json              what is where
//   <root>/iter_0000123/shard-00002-of-00004.safetensors    what rank 2 of 4 wrote
//   <root>/iter_0000123.tmp-1a2b3c4d/           a save under way, or left by a crash
//   <root>/iter_0000123.replaced/               the earlier one while the iteration is saved again
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

// The iteration in the tracker file of `root`; empty where there is no such file. Throws Error
// where it does not hold a number.
std::optional<int64_t> latest_iteration(const std::filesystem::path& root);

// The iterations that have a folder under `root`, sorted.
std::vector<int64_t> stored_iterations(const std::filesystem::path& root);

// The folder with the index: `path` itself where it holds one (or is named like one), else the
// folder of `iteration`, or of the tracker's. Throws Error where there is none, listing those that
// exist.
std::filesystem::path find_checkpoint(const std::filesystem::path& path,
                                      std::optional<int64_t> iteration = std::nullopt);

// Undoes what an interrupted save left: temporary folders go; an earlier checkpoint that had been
// set aside comes back unless its successor is in place. No save may be under way.
void clean_interrupted_saves(const std::filesystem::path& root);

// Makes `root` and a new temporary folder for the iteration in it.
std::filesystem::path make_temporary_directory(const std::filesystem::path& root,
                                               int64_t iteration);

// Puts a complete temporary folder at its place, durably. An earlier checkpoint of the iteration is
// set aside first and removed afterwards, so that at every moment one of the two is whole.
void publish_directory(const std::filesystem::path& root, int64_t iteration,
                       const std::filesystem::path& temporary);

void write_tracker(const std::filesystem::path& root, int64_t iteration);

}  // namespace megatron
