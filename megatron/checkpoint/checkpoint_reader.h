// Reads a checkpoint into the sharded state dict of any layout: each requested rectangle is put
// together from the chunks that overlap it.
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
  // Also converts to data types that cannot hold every value of the stored type (fp32 to bf16).
  // Widening (bf16 to fp32) is always done.
  bool allow_lossy_conversion = false;
};

// Used by one thread at a time; every rank opens a reader of its own. Shards are mapped when they
// are first needed, so that a rank reads only the chunks that overlap its parts.
class CheckpointReader {
 public:
  // `path` is the folder of an iteration, or the folder above it: then `iteration`, or else the
  // tracker, says which. Throws Error where there is no whole checkpoint.
  static CheckpointReader open(const std::filesystem::path& path,
                               std::optional<int64_t> iteration = std::nullopt);

  const std::filesystem::path& directory() const { return directory_; }
  int64_t iteration() const { return index_.iteration; }
  const nlohmann::json& common() const { return index_.common; }
  const CheckpointIndex& index() const { return index_; }
  bool contains(const std::string& key) const { return index_.tensors.count(key) > 0; }
  std::vector<std::string> keys() const;  // sorted

  // Fills every tensor of `state` in place, replicas too. Returns the checkpoint's keys that
  // `state` does not name, sorted. Names, shapes and data types are checked before anything is
  // changed; every chunk is compared with its checksum before it is copied. Throws Error naming the
  // key and, for damage, the file.
  std::vector<std::string> load(const ShardedStateDict& state, const LoadOptions& options = {});

  // The whole tensor of a key.
  at::Tensor load_tensor(const std::string& key);

 private:
  CheckpointReader() = default;
  const CheckpointTensor& find(const std::string& key) const;
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
