// NumPy's .npy files (format 1.0, little endian, C order) of the three shapes that Megatron's index
// caches have. Not a general reader.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "megatron/base/mapped_file.h"

namespace megatron {

// Writes rows x columns numbers of the type `descr` ("<i4", "<u4", "<i2", "<i8"); columns 0: one
// dimension.
void write_npy(const std::string& path, std::string_view descr, int64_t rows, int64_t columns,
               std::span<const std::byte> values);

struct NpyArray {
  std::shared_ptr<const MappedFile> file;
  std::span<const std::byte> values;
  int64_t rows = 0;
};

// Maps a file that must have that type and number of columns. Throws Error.
NpyArray read_npy(const std::string& path, std::string_view descr, int64_t columns);

}  // namespace megatron
