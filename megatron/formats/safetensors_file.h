// Reads safetensors files through a memory map. Format: header length (8 bytes, little-endian),
// JSON header, data. The header is validated when the file is opened.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/base/mapped_file.h"

namespace megatron {

struct SafetensorsEntry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  size_t begin = 0, end = 0;  // bytes within the data section
};

class SafetensorsFile {
 public:
  // Throws Error if the file is missing, truncated or invalid.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  // Sorted.
  std::vector<std::string> names() const;
  bool contains(const std::string& name) const { return entries_.count(name) > 0; }
  // The functions below throw Error with the nearest name if there is no tensor `name`.
  const SafetensorsEntry& entry(const std::string& name) const;
  // A copy that outlives the file.
  at::Tensor tensor(const std::string& name) const;
  // A view of the mapped file, or a copy if the data is not aligned for its type. The tensor keeps
  // the file open; writes to it do not change the file.
  at::Tensor mapped(const std::string& name) const;
  std::span<const std::byte> bytes(const std::string& name) const;
  // Drops the mapped pages of a tensor.
  void release(const std::string& name) const;

  // The strings in "__metadata__".
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  size_t file_bytes() const { return map_->bytes().size(); }

 private:
  SafetensorsFile() = default;

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> map_;
  std::span<std::byte> data_;
  std::map<std::string, SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace megatron
