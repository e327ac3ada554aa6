// NumPy .npy files (format 1.0, little-endian, C order), restricted to the arrays of Megatron's
// index cache.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "megatron/base/mapped_file.h"

namespace megatron {

// Writes an array of type `descr` ("<i4", "<u4", "<i2", "<i8") and shape [rows, columns], or [rows]
// if columns is 0.
void write_npy(const std::string& path, std::string_view descr, int64_t rows, int64_t columns,
               std::span<const std::byte> values);

struct NpyArray {
  std::shared_ptr<const MappedFile> file;
  std::span<const std::byte> values;
  int64_t rows = 0;
};

// Maps a file. Throws Error if it has another type or number of columns.
NpyArray read_npy(const std::string& path, std::string_view descr, int64_t columns);

}  // namespace megatron
