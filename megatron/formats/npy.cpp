#include "megatron/formats/npy.h"

#include <charconv>
#include <cstdint>
#include <cstring>

#include "megatron/base/error.h"
#include "megatron/formats/output_file.h"

namespace megatron {
namespace {

constexpr std::string_view kNpyMagic{"\x93NUMPY\x01\x00", 8};

std::string npy_header(std::string_view descr, int64_t rows, int64_t columns) {
  const std::string shape =
      columns == 0 ? fmt::format("({},)", rows) : fmt::format("({}, {})", rows, columns);
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", descr, shape);
  // Magic, length, header and newline are padded to a multiple of 64 bytes.
  const size_t used = kNpyMagic.size() + 2 + header.size() + 1;
  header.append((64 - used % 64) % 64, ' ');
  header += '\n';
  return header;
}

std::string_view unpadded(std::string_view header) {
  return header.substr(0, header.find_last_not_of(" \n") + 1);
}

}  // namespace

void write_npy(const std::string& path, std::string_view descr, int64_t rows, int64_t columns,
               std::span<const std::byte> values) {
  const std::string header = npy_header(descr, rows, columns);
  OutputFile file(path);
  file.write(kNpyMagic.data(), kNpyMagic.size());
  file.write_value(static_cast<uint16_t>(header.size()));
  file.write(header.data(), header.size());
  file.write(values.data(), values.size());
  file.commit();
}

NpyArray read_npy(const std::string& path, std::string_view descr, int64_t columns) {
  NpyArray array;
  array.file = std::make_shared<MappedFile>(path);
  const auto* data = reinterpret_cast<const char*>(array.file->data());
  const size_t size = array.file->size();
  uint16_t header_size = 0;
  const bool readable =
      size >= kNpyMagic.size() + 2 && std::memcmp(data, kNpyMagic.data(), kNpyMagic.size()) == 0;
  if (readable) std::memcpy(&header_size, data + kNpyMagic.size(), 2);
  const size_t begin = kNpyMagic.size() + 2 + header_size;
  check(readable && begin <= size, "Expected a NumPy file of format 1.0, but got {}", path);
  const std::string_view header(data + kNpyMagic.size() + 2, header_size);
  constexpr std::string_view kShape = "'shape': (";
  const size_t shape = header.find(kShape);
  int64_t rows = -1;
  if (shape != std::string_view::npos) {
    const std::string_view number = header.substr(shape + kShape.size());
    std::from_chars(number.data(), number.data() + number.size(), rows);
  }
  // Compare type, order and columns with the header for this number of rows. Writers differ in
  // their padding.
  const std::string expected = rows >= 0 ? npy_header(descr, rows, columns) : "?";
  check(unpadded(header) == unpadded(expected),
        "Expected {} to hold {} in C order, but its header says {}", path, descr, header);
  const int64_t item = descr.back() - '0';
  const auto bytes =
      static_cast<uint64_t>(rows) * static_cast<uint64_t>(item * std::max<int64_t>(columns, 1));
  check(static_cast<uint64_t>(rows) <= size && bytes == size - begin,
        "Expected {} to hold {} rows, but it has {} bytes", path, rows, size);
  array.rows = rows;
  array.values = {array.file->data() + begin, static_cast<size_t>(bytes)};
  return array;
}

}  // namespace megatron
