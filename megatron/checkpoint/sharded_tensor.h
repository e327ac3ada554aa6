// A shard of a global tensor: checkpoints are saved from and loaded into these.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

class Parameter;

// The rectangle [global_offset, global_offset + data.sizes()) of the global tensor `key`.
struct ShardedTensor {
  std::string key;
  at::Tensor data;  // view of the live tensor, loaded in place; may be non-contiguous
  std::vector<int64_t> global_shape;
  std::vector<int64_t> global_offset;
  int64_t replica_id = 0;  // only replica 0 is saved
  // Dimension 0 of the stored tensor may differ (vocabulary padding): the common rows are loaded,
  // other rows keep their values.
  bool allow_shape_mismatch = false;
  const Parameter* parameter = nullptr;  // owner of the values or optimizer state, if any
};

using ShardedStateDict = std::vector<ShardedTensor>;

inline bool contains_key(const ShardedStateDict& state, const std::string& key) {
  return std::ranges::any_of(state, [&](const ShardedTensor& tensor) { return tensor.key == key; });
}

}  // namespace megatron
