// A rank's part of a global tensor: what checkpoints are written from and read into.
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
  at::Tensor data;  // a view of the live tensor: loading fills it in place; need not be contiguous
  std::vector<int64_t> global_shape;
  std::vector<int64_t> global_offset;
  int64_t replica_id = 0;  // 0: this copy is written; others hold the same values
  // The global shape in a file may differ along dimension 0 (vocabulary padding): the common rows
  // are read, rows beyond them keep their values.
  bool allow_shape_mismatch = false;
  const Parameter* parameter = nullptr;  // whose values or optimizer state these are, if one's
};

using ShardedStateDict = std::vector<ShardedTensor>;

inline bool contains_key(const ShardedStateDict& state, const std::string& key) {
  return std::ranges::any_of(state, [&](const ShardedTensor& tensor) { return tensor.key == key; });
}

}  // namespace megatron
