// What the checkpoint tests share: a folder that goes away, tensors with known values, parts of
// them.
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

namespace megatron {

// A test with an empty folder of its own.
class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest();
  ~CheckpointTest() override;

  std::filesystem::path root_;
};

ProcessGroup world_of_one();

// Runs `rank_main` as `world_size` ranks that are threads; throws what one of them threw.
void run_ranks(int world_size, const std::function<void(const ProcessGroup& world)>& rank_main);

// Saves with rank r giving states[r].
void save_in_ranks(const std::filesystem::path& root, int64_t iteration,
                   const std::vector<ShardedStateDict>& states);

// 0, 1, 2, ...; bf16 holds the first 257 exactly.
at::Tensor numbered(std::vector<int64_t> shape, at::ScalarType dtype = at::kFloat);

// The whole of `data` under `key`.
ShardedTensor whole(const std::string& key, at::Tensor data);

// Part `index` of `count` along `dim` of a tensor of `global_shape`; `data` is that part.
ShardedTensor part_of(const std::string& key, at::Tensor data, std::vector<int64_t> global_shape,
                      int64_t dim, int64_t index);

// The text of the Error that `run` throws; fails the test where it throws none, or one of several
// lines.
std::string error_of(const std::function<void()>& run);

std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& content);

// Names in a folder, sorted.
std::vector<std::string> names_in(const std::filesystem::path& directory);

}  // namespace megatron
