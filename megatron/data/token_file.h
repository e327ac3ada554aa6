// The bytes of a .bin file, mapped into memory or read on demand.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <vector>

#include "megatron/base/mapped_file.h"

namespace megatron {

class TokenFile {
 public:
  // Throws Error if the file is missing, is not a regular file or cannot be mapped.
  TokenFile(const std::filesystem::path& path, bool mapped);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  size_t size() const { return size_; }
  bool mapped() const { return mapping_.has_value(); }

  // The bytes [offset, offset + count), which must lie in the file. `buffer` holds them where the
  // file is not mapped. Throws Error if the system cannot read them.
  const std::byte* bytes(size_t offset, size_t count, std::vector<std::byte>& buffer) const;

 private:
  std::filesystem::path path_;
  std::optional<MappedFile> mapping_;
  int descriptor_ = -1;
  size_t size_ = 0;
};

}  // namespace megatron
