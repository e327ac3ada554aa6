// Writes a safetensors file in one pass, computes a checksum of every tensor, and syncs the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

struct NamedTensor {
  std::string name;
  // Any device and strides; copied only if it is not contiguous CPU memory. With `read`, a meta
  // tensor of the same shape and type.
  at::Tensor data;
  std::function<at::Tensor()> read = {};  // returns the values when they are written
};

struct WrittenSafetensors {
  int64_t bytes = 0;                   // size of the file
  std::vector<std::string> checksums;  // of the tensors' data, in the order of the argument
};

// Tensors of wide types come first in the file, so that all are aligned. Throws Error for duplicate
// names, unsupported types and write errors.
WrittenSafetensors write_safetensors(const std::filesystem::path& path,
                                     const std::vector<NamedTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata = {});

}  // namespace megatron
