#include "megatron/checkpoint/checkpoint_reader.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/dtype_conversion.h"
#include "megatron/config/model/norm_keys.h"
#include "megatron/formats/checksum.h"
#include "megatron/formats/file_io.h"

namespace megatron {
namespace {

// View of the rectangle `inner` of `tensor`, whose first element has global index `origin`.
at::Tensor narrow_to(at::Tensor tensor, const std::vector<int64_t>& origin,
                     const Rectangle& inner) {
  for (size_t d = 0; d < origin.size(); ++d) {
    tensor = tensor.narrow(static_cast<int64_t>(d), inner.offset[d] - origin[d], inner.shape[d]);
  }
  return tensor;
}

// Whether the shapes are equal except in dimension 0.
bool same_row_shape(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  return a.size() == b.size() && !a.empty() && std::equal(a.begin() + 1, a.end(), b.begin() + 1);
}

}  // namespace

CheckpointReader CheckpointReader::open(const std::filesystem::path& path,
                                        std::optional<int64_t> iteration) {
  CheckpointReader reader;
  reader.directory_ = find_checkpoint(path, iteration);
  const auto file = reader.directory_ / kIndexFile;
  reader.index_ = index_from_text(read_text_file(file), file);
  return reader;
}

std::vector<std::string> CheckpointReader::keys() const {
  std::vector<std::string> result;
  for (const auto& [key, tensor] : index_.tensors) result.push_back(key);
  return result;
}

CheckpointTensors::const_iterator CheckpointReader::find_stored(const std::string& key) const {
  const auto found = index_.tensors.find(key);
  if (found != index_.tensors.end()) return found;
  const std::optional<std::string> older = standalone_norm_name(key);
  return older ? index_.tensors.find(*older) : found;
}

CheckpointTensors::const_iterator CheckpointReader::find(const std::string& key) const {
  const auto found = find_stored(key);
  if (found == index_.tensors.end()) {
    fail("Expected '{}' in the checkpoint {}, but it has no such key; the nearest is '{}'", key,
         directory_.string(), nearest_name(key, keys()));
  }
  return found;
}

void CheckpointReader::check_request(const ShardedTensor& request,
                                     const LoadOptions& options) const {
  const CheckpointTensor& stored = find(request.key)->second;
  check(request.data.defined() &&
            is_inside({request.global_offset, request.data.sizes().vec()}, request.global_shape),
        "Expected the sharded tensor '{}' to lie within its global shape {}, but got offset {}",
        request.key, format_shape(request.global_shape), format_shape(request.global_offset));
  const bool matches =
      stored.shape == request.global_shape ||
      (request.allow_shape_mismatch && same_row_shape(stored.shape, request.global_shape));
  check(matches, "Expected global shape {} of '{}', but the checkpoint {} has {}",
        format_shape(request.global_shape), request.key, directory_.string(),
        format_shape(stored.shape));
  const auto wanted = request.data.scalar_type();
  check(options.allow_lossy_conversion || is_lossless_conversion(stored.dtype, wanted),
        "Expected '{}' of the checkpoint {} in a type that converts to {} without loss, but it is "
        "stored as {}; load it as {}",
        request.key, directory_.string(), dtype_name(wanted), dtype_name(stored.dtype),
        dtype_name(stored.dtype));
}

std::vector<std::string> CheckpointReader::load(const ShardedStateDict& state,
                                                const LoadOptions& options) {
  const at::NoGradGuard no_grad;
  std::set<std::string> asked;
  for (const auto& request : state) {
    check_request(request, options);
    asked.insert(find(request.key)->first);
  }
  for (const auto& request : state) {
    if (request.data.numel() == 0) continue;
    const CheckpointTensor& stored = find(request.key)->second;
    const Rectangle wanted{request.global_offset, request.data.sizes().vec()};
    for (const auto& chunk : stored.chunks) {
      if (const auto overlap = intersect(chunk.region, wanted)) {
        copy_chunk(chunk, stored, *overlap, request);
      }
    }
  }
  std::vector<std::string> not_asked;
  for (const auto& [key, tensor] : index_.tensors) {
    if (asked.count(key) == 0) not_asked.push_back(key);
  }
  return not_asked;
}

at::Tensor CheckpointReader::load_tensor(const std::string& key) {
  const CheckpointTensor& stored = find(key)->second;
  ShardedTensor request;
  request.key = key;
  request.data = at::empty(stored.shape, stored.dtype);
  request.global_shape = stored.shape;
  request.global_offset.assign(stored.shape.size(), 0);
  load({request});
  return request.data;
}

void CheckpointReader::copy_chunk(const CheckpointChunk& chunk, const CheckpointTensor& tensor,
                                  const Rectangle& overlap, const ShardedTensor& request) {
  const auto& file = shard(chunk.file);
  verify(chunk, tensor, file);
  const auto source = narrow_to(file.mapped(chunk.name), chunk.region.offset, overlap);
  narrow_to(request.data.detach(), request.global_offset, overlap).copy_(source);
  file.release(chunk.name);  // bounds the memory of a load
}

const SafetensorsFile& CheckpointReader::shard(const std::string& file) {
  const auto known = shards_.find(file);
  if (known != shards_.end()) return known->second;
  const auto path = directory_ / file;
  check(
      std::filesystem::exists(path),
      "Expected shard {} of checkpoint {}, but it is missing; restore it or load another iteration",
      file, directory_.string());
  const auto expected = index_.files.at(file).bytes;
  const auto actual = static_cast<int64_t>(std::filesystem::file_size(path));
  check(
      actual == expected,
      "Expected shard {} to have {} bytes, but it has {}: it is truncated or damaged; load another "
      "iteration",
      path.string(), expected, actual);
  return shards_.emplace(file, SafetensorsFile::open(path)).first->second;
}

void CheckpointReader::verify(const CheckpointChunk& chunk, const CheckpointTensor& tensor,
                              const SafetensorsFile& file) {
  if (verified_.count({chunk.file, chunk.name}) > 0) return;
  const auto& entry = file.entry(chunk.name);
  check(entry.dtype == tensor.dtype && entry.shape == chunk.region.shape,
        "Expected tensor '{}' of {} to have type {} and shape {} as the index says, but got {} and "
        "{}",
        chunk.name, file.path().string(), dtype_name(tensor.dtype),
        format_shape(chunk.region.shape), dtype_name(entry.dtype), format_shape(entry.shape));
  const auto bytes = file.bytes(chunk.name);
  const auto actual = checksum_hex(bytes.data(), bytes.size());
  check(actual == chunk.checksum,
        "Expected checksum {} of tensor '{}' in {}, but its data has {}: the file is damaged; load "
        "another iteration",
        chunk.checksum, chunk.name, file.path().string(), actual);
  verified_.emplace(chunk.file, chunk.name);
}

}  // namespace megatron
