// A shard of a global tensor: checkpoints are saved from and loaded into these.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

class Parameter;

// The rectangle [global_offset, global_offset + data.sizes()) of the global tensor `key`.
struct ShardedTensor {
  std::string key;
  // View of the live tensor, loaded in place; may be non-contiguous. With `read`, a meta tensor.
  at::Tensor data;
  std::vector<int64_t> global_shape;
  std::vector<int64_t> global_offset;
  int64_t replica_id = 0;  // only replica 0 is saved
  // Dimension 0 of the stored tensor may differ (vocabulary padding): the common rows are loaded,
  // other rows keep their values.
  bool allow_shape_mismatch = false;
  const Parameter* parameter = nullptr;  // owner of the values or optimizer state, if any
  // To save values that are not in memory: returns them when they are written.
  std::function<at::Tensor()> read = {};
};

using ShardedStateDict = std::vector<ShardedTensor>;

inline bool contains_key(const ShardedStateDict& state, const std::string& key) {
  return std::ranges::any_of(state, [&](const ShardedTensor& tensor) { return tensor.key == key; });
}

}  // namespace megatron
