// A file mapped into memory. Nothing here knows what the bytes mean.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace megatron {

// Read page by page on first touch. Private: what is written to the memory stays there.
class MappedFile {
 public:
  // Throws Error where the file is missing, is not a regular file, or cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }
  const std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  // Gives the pages of `part` back; they are read again when they are touched again. Changes made
  // to them are lost.
  void release(std::span<const std::byte> part) const;

 private:
  std::span<std::byte> bytes_;
};

}  // namespace megatron
