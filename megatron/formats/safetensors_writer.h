// Writes a safetensors file in one pass, with a checksum of every tensor, and syncs it to the disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

struct NamedTensor {
  std::string name;
  at::Tensor
      data;  // any layout and device; copied only where it is not contiguous memory of the CPU
};

struct WrittenSafetensors {
  int64_t bytes = 0;                   // of the file
  std::vector<std::string> checksums;  // of the tensors' data, in the order of the argument
};

// Names must differ. Within the file, tensors of wide types come first, so that all are aligned.
// Throws Error where a name comes twice, a type is not in the format, or the file cannot be
// written.
WrittenSafetensors write_safetensors(const std::filesystem::path& path,
                                     const std::vector<NamedTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata = {});

}  // namespace megatron
