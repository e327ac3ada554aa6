// Reads a checkpoint into a sharded state dict of any layout: every requested rectangle is
// assembled from the chunks that overlap it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/checkpoint/checkpoint_index.h"
#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/formats/safetensors_file.h"

namespace megatron {

struct LoadOptions {
  // Allows conversions that lose precision (fp32 to bf16). Lossless ones (bf16 to fp32) are always
  // allowed.
  bool allow_lossy_conversion = false;
};

// Not thread-safe; every rank opens its own reader. Shards are mapped on first use, and a rank
// reads only the chunks that overlap its rectangles.
class CheckpointReader {
 public:
  // `path` is a checkpoint, or the directory of several: then `iteration` selects one, by default
  // the tracker's. Throws Error if there is no complete checkpoint.
  static CheckpointReader open(const std::filesystem::path& path,
                               std::optional<int64_t> iteration = std::nullopt);

  const std::filesystem::path& directory() const { return directory_; }
  int64_t iteration() const { return index_.iteration; }
  const nlohmann::json& common() const { return index_.common; }
  const CheckpointIndex& index() const { return index_; }
  bool contains(const std::string& key) const { return find_stored(key) != index_.tensors.end(); }
  std::vector<std::string> keys() const;  // sorted

  // Loads every tensor of `state` in place, including replicas. Returns the keys of the checkpoint
  // that `state` lacks, sorted. Checks keys, shapes and data types before it changes any tensor,
  // and the checksum of every chunk before it copies it. Throws Error with the key and, for damage,
  // the file.
  std::vector<std::string> load(const ShardedStateDict& state, const LoadOptions& options = {});

  // The global tensor of a key.
  at::Tensor load_tensor(const std::string& key);

 private:
  CheckpointReader() = default;
  // Also finds norms of checkpoints from before version 0.2, which have names of their own; see
  // standalone_norm_name().
  CheckpointTensors::const_iterator find_stored(const std::string& key) const;
  CheckpointTensors::const_iterator find(const std::string& key) const;  // throws Error if absent
  void check_request(const ShardedTensor& request, const LoadOptions& options) const;
  void copy_chunk(const CheckpointChunk& chunk, const CheckpointTensor& tensor,
                  const Rectangle& overlap, const ShardedTensor& request);
  const SafetensorsFile& shard(const std::string& file);
  void verify(const CheckpointChunk& chunk, const CheckpointTensor& tensor,
              const SafetensorsFile& file);

  std::filesystem::path directory_;
  CheckpointIndex index_;
  std::map<std::string, SafetensorsFile> shards_;
  std::set<std::pair<std::string, std::string>> verified_;  // file and name
};

}  // namespace megatron
