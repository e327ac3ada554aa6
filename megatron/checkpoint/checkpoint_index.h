// index.json of a checkpoint: the file of every rectangle of every tensor. A reader needs only this
// index and the safetensors files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <c10/core/ScalarType.h>
#include <nlohmann/json.hpp>

#include "megatron/formats/rectangle.h"

namespace megatron {

// A rectangle of a global tensor, stored as tensor `name` in the shard `file`.
struct CheckpointChunk {
  std::string file;
  std::string name;
  Rectangle region;
  std::string checksum;  // XXH3-64 of the data, 16 hexadecimal digits
};

struct CheckpointTensor {
  at::ScalarType dtype;
  std::vector<int64_t> shape;  // global
  std::vector<CheckpointChunk> chunks;
};

using CheckpointTensors = std::map<std::string, CheckpointTensor>;  // by key

struct CheckpointShard {
  int64_t bytes = 0;
  int rank = 0;  // rank that wrote it
};

struct CheckpointIndex {
  int64_t iteration = 0;
  nlohmann::json common;  // data other than tensors: options, consumed samples, fingerprint
  std::map<std::string, CheckpointShard> files;
  CheckpointTensors tensors;
};

nlohmann::json tensors_to_json(const CheckpointTensors& tensors);
// Throws nlohmann::json::exception or Error if the structure is invalid.
CheckpointTensors tensors_from_json(const nlohmann::json& json);

// JSON text that includes a checksum of itself.
std::string index_to_text(const CheckpointIndex& index);

// Throws Error with `path` if the text is damaged or of a newer version, or if the chunks of a
// tensor do not tile it.
CheckpointIndex index_from_text(std::string_view text, const std::filesystem::path& path);

}  // namespace megatron
