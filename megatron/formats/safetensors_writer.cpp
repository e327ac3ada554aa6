#include "megatron/formats/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/formats/checksum.h"
#include "megatron/formats/file_io.h"
#include "megatron/formats/safetensors_format.h"

namespace megatron {
namespace {

constexpr size_t kHeaderAlignment = 8;

std::vector<size_t> widest_first(const std::vector<NamedTensor>& tensors) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return tensors[a].data.element_size() > tensors[b].data.element_size();
  });
  return order;
}

std::string make_header(const std::vector<NamedTensor>& tensors, const std::vector<size_t>& order,
                        const std::map<std::string, std::string>& metadata) {
  auto header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const size_t index : order) {
    const auto& [name, data, read] = tensors[index];
    check(name != "__metadata__" && !header.contains(name),
          "Expected unique tensor names in a safetensors file, but got '{}' twice", name);
    const auto bytes = static_cast<int64_t>(data.nbytes());
    header[name] = {{"dtype", safetensors_dtype_name(data.scalar_type())},
                    {"shape", data.sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize(round_up(text.size(), kHeaderAlignment), ' ');
  return text;
}

// Computes the checksum and writes in chunks, so that the write reads the data from the cache.
std::string write_data(FileWriter& writer, const NamedTensor& tensor) {
  constexpr size_t kPiece = size_t{1} << 20;
  const at::Tensor values = tensor.read ? tensor.read() : tensor.data;
  check(values.sizes() == tensor.data.sizes() && values.scalar_type() == tensor.data.scalar_type(),
        "Expected '{}' as it was announced, of {} and shape {}, but got {} and {}", tensor.name,
        c10::toString(tensor.data.scalar_type()), tensor.data.sizes().vec(),
        c10::toString(values.scalar_type()), values.sizes().vec());
  const auto memory = values.detach().to(at::kCPU).contiguous();
  const auto* next = static_cast<const char*>(memory.const_data_ptr());
  Checksum checksum;
  for (size_t left = memory.nbytes(); left > 0;) {
    const size_t piece = std::min(left, kPiece);
    checksum.update(next, piece);
    writer.write(next, piece);
    next += piece;
    left -= piece;
  }
  return checksum.hex();
}

}  // namespace

WrittenSafetensors write_safetensors(const std::filesystem::path& path,
                                     const std::vector<NamedTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata) {
  const auto order = widest_first(tensors);
  const std::string header = make_header(tensors, order, metadata);
  const uint64_t header_bytes = header.size();
  FileWriter writer(path);
  writer.write(&header_bytes, sizeof(header_bytes));
  writer.write(header.data(), header.size());
  WrittenSafetensors written;
  written.bytes = static_cast<int64_t>(sizeof(header_bytes) + header.size());
  written.checksums.resize(tensors.size());
  for (const size_t index : order) {
    written.checksums[index] = write_data(writer, tensors[index]);
    written.bytes += static_cast<int64_t>(tensors[index].data.nbytes());
  }
  writer.finish();
  return written;
}

}  // namespace megatron
