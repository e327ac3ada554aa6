// Fixture of the checkpoint tests: a temporary directory, tensors with known values, shards.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/parallel/process_group.h"

#include "tests/temporary_folder.h"

namespace megatron {

// A test with an empty temporary directory.
class CheckpointTest : public ::testing::Test {
 protected:
  const TemporaryFolder folder_;
  const std::filesystem::path root_ = folder_.path();
};

ProcessGroup world_of_one();

// Runs `rank_main` on `world_size` threads as ranks; rethrows an exception of a rank.
void run_ranks(int world_size, const std::function<void(const ProcessGroup& world)>& rank_main);

// Saves states[r] on rank r.
void save_in_ranks(const std::filesystem::path& root, int64_t iteration,
                   const std::vector<ShardedStateDict>& states);

// 0, 1, 2, ...; bf16 holds the first 257 exactly.
at::Tensor numbered(std::vector<int64_t> shape, at::ScalarType dtype = at::kFloat);

// `data` as the global tensor `key`.
ShardedTensor whole(const std::string& key, at::Tensor data);

// `data` as shard `index` of `count` along `dim` of a tensor of `global_shape`.
ShardedTensor part_of(const std::string& key, at::Tensor data, std::vector<int64_t> global_shape,
                      int64_t dim, int64_t index);

// The message of the Error that `run` throws. The test fails if there is none or if it has several
// lines.
std::string error_of(const std::function<void()>& run);

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& content);

// Sorted names in a directory.
std::vector<std::string> names_in(const std::filesystem::path& directory);

}  // namespace megatron
