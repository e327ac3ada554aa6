// A file of a known size that several processes write at once, each to its own parts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/formats/rectangle.h"

namespace megatron {

class SharedFile {
 public:
  // Creates a file of `bytes` zeros. Throws Error, also where the disk is too small.
  static void create(const std::filesystem::path& path, int64_t bytes);

  // Opens an existing file. Every failure throws Error with the file and the reason.
  explicit SharedFile(std::filesystem::path path);
  ~SharedFile();
  SharedFile(SharedFile&& other) noexcept;
  SharedFile& operator=(SharedFile&&) = delete;

  void write(int64_t offset, const void* data, size_t bytes);
  // Writes `values` to the rectangle `region` of a row-major tensor of `shape` and their type whose
  // data begins at `offset`.
  void write_region(int64_t offset, const std::vector<int64_t>& shape, const Rectangle& region,
                    const at::Tensor& values);
  // Syncs to disk.
  void sync();

 private:
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace megatron
