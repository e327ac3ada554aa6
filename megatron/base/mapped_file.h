// A memory-mapped file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace megatron {

// Pages are read on first access. The mapping is private: writes to it do not reach the file.
class MappedFile {
 public:
  // Throws Error if the file is missing, is not a regular file or cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }
  const std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  // Drops the pages of `range`. The next access reads them again; writes to them are lost.
  void release(std::span<const std::byte> range) const;

 private:
  std::span<std::byte> bytes_;
};

}  // namespace megatron
