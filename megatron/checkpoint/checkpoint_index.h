// The index.json of a checkpoint: which rectangle of which tensor lies in which file. Together with
// the safetensors files it is all that a reader needs.
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

// A rectangle of a global tensor, stored as the tensor `name` of the shard `file`.
struct CheckpointChunk {
  std::string file;
  std::string name;
  Rectangle region;
  std::string checksum;  // XXH3-64 of the data's bytes, 16 hexadecimal digits
};

struct CheckpointTensor {
  at::ScalarType dtype;
  std::vector<int64_t> shape;  // global
  std::vector<CheckpointChunk> chunks;
};

using CheckpointTensors = std::map<std::string, CheckpointTensor>;  // by key

struct CheckpointShard {
  int64_t bytes = 0;
  int rank = 0;  // that wrote it
};

struct CheckpointIndex {
  int64_t iteration = 0;
  nlohmann::json common;  // what is not a tensor: options, consumed samples, fingerprint
  std::map<std::string, CheckpointShard> files;
  CheckpointTensors tensors;
};

nlohmann::json tensors_to_json(const CheckpointTensors& tensors);
// Throws nlohmann::json::exception or Error where the structure is wrong.
CheckpointTensors tensors_from_json(const nlohmann::json& json);

// JSON text with a checksum of its own.
std::string index_to_text(const CheckpointIndex& index);

// Throws Error naming `path` where the text is damaged, comes from a later version, or the chunks
// of a tensor do not tile it.
CheckpointIndex index_from_text(std::string_view text, const std::filesystem::path& path);

}  // namespace megatron
