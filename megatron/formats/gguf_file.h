// Reads GGUF files (versions 2 and 3, little-endian) through a memory map. Format: magic, version,
// counts, metadata, tensor infos, padding, data. The header is validated when the file is opened; no
// tensor can reach beyond the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/base/mapped_file.h"
#include "megatron/formats/gguf_metadata.h"
#include "megatron/ops/quantization/ggml_type.h"

namespace megatron {

struct GgufEntry {
  GgmlType type;
  std::vector<int64_t> shape;  // rows first, as in PyTorch; the file lists dimensions reversed
  size_t begin = 0, end = 0;   // bytes within the data section
};

class GgufFile {
 public:
  // Throws Error if the file is missing, truncated or invalid, holds a tensor of a type that is not
  // in GgmlType, or is one of several parts of a model.
  static GgufFile open(const std::filesystem::path& path);
  // Whether the file begins as a GGUF file. False for a missing file.
  static bool is_gguf(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const GgufMetadata& metadata() const { return metadata_; }
  // In the order of the file.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(const std::string& name) const { return entries_.count(name) > 0; }
  // The functions below throw Error with the nearest name if there is no tensor `name`.
  const GgufEntry& entry(const std::string& name) const;
  std::span<const std::byte> bytes(const std::string& name) const;
  // The values, decoded (dequantize_ggml) to fp32, bf16 or fp16.
  at::Tensor tensor(const std::string& name, at::ScalarType dtype = at::kFloat) const;
  // Drops the mapped pages of a tensor.
  void release(const std::string& name) const;

 private:
  explicit GgufFile(const std::filesystem::path& path);

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> map_;
  std::span<const std::byte> data_;
  GgufMetadata metadata_;
  std::vector<std::string> names_;
  std::map<std::string, GgufEntry> entries_;
};

}  // namespace megatron
