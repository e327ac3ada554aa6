#include "megatron/formats/safetensors_file.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/formats/rectangle.h"
#include "megatron/formats/safetensors_format.h"

namespace megatron {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr size_t kLengthBytes = 8;
constexpr size_t kLargestHeader = 100'000'000;  // the limit of the reference implementation

[[noreturn]] void fail_safetensors(const std::filesystem::path& path, std::string_view what) {
  fail("Expected a safetensors file in {}, but {}; it is damaged or another kind of file",
       path.string(), what);
}

std::vector<int64_t> parse_sizes(const nlohmann::json& list, size_t length_or_any,
                                 const std::filesystem::path& path, const std::string& name,
                                 std::string_view field) {
  const bool right =
      list.is_array() && (length_or_any == 0 || list.size() == length_or_any) &&
      std::all_of(list.begin(), list.end(), [](const auto& size) {
        return size.is_number_unsigned() && size.template get<uint64_t>() <= uint64_t{INT64_MAX};
      });
  if (!right) fail_safetensors(path, fmt::format("'{}' of tensor '{}' is invalid", field, name));
  return list.get<std::vector<int64_t>>();
}

SafetensorsEntry parse_entry(const std::filesystem::path& path, const std::string& name,
                             const nlohmann::json& json) {
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets") || !json["dtype"].is_string()) {
    fail_safetensors(path, fmt::format("tensor '{}' lacks a dtype, shape or data_offsets", name));
  }
  const auto& dtype_name = json["dtype"].get_ref<const std::string&>();
  const auto dtype = safetensors_dtype(dtype_name);
  check(dtype.has_value(),
        "Expected tensor '{}' of {} to have a data type of F64, F32, F16, BF16, F8_E4M3, F8_E5M2, "
        "I64..I8, U64..U8 or BOOL, but got '{}'",
        name, path.string(), dtype_name);
  SafetensorsEntry entry;
  entry.dtype = *dtype;
  entry.shape = parse_sizes(json["shape"], 0, path, name, "shape");
  const auto offsets = parse_sizes(json["data_offsets"], 2, path, name, "data_offsets");
  entry.begin = static_cast<size_t>(offsets[0]);
  entry.end = static_cast<size_t>(offsets[1]);
  const int64_t item = static_cast<int64_t>(c10::elementSize(*dtype));
  int64_t bytes = shape_volume(entry.shape);
  const bool fits = !__builtin_mul_overflow(bytes, item, &bytes);
  if (!fits || entry.begin > entry.end || static_cast<size_t>(bytes) != entry.end - entry.begin) {
    fail_safetensors(
        path, fmt::format("tensor '{}' of shape {} and type {} has data_offsets {}..{}", name,
                          format_shape(entry.shape), dtype_name, entry.begin, entry.end));
  }
  return entry;
}

// Tensors must fill the data section without gaps.
void check_layout(const std::filesystem::path& path, size_t data_bytes,
                  const std::map<std::string, SafetensorsEntry>& entries) {
  std::vector<std::pair<const std::string*, const SafetensorsEntry*>> order;
  for (const auto& [name, entry] : entries) order.emplace_back(&name, &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  size_t reached = 0;
  for (const auto& [name, entry] : order) {
    if (entry->begin != reached) {
      fail_safetensors(path, fmt::format("tensor '{}' begins at byte {} of the data instead of {}",
                                         *name, entry->begin, reached));
    }
    reached = entry->end;
  }
  if (reached != data_bytes) {
    fail_safetensors(
        path, fmt::format("its tensors need {} bytes of data and it has {}", reached, data_bytes));
  }
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.path_ = path;
  file.map_ = std::make_shared<MappedFile>(path);
  const auto all = file.map_->bytes();
  if (all.size() < kLengthBytes) {
    fail_safetensors(path, fmt::format("it has {} bytes", all.size()));
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, all.data(), kLengthBytes);
  if (header_bytes > std::min(all.size() - kLengthBytes, kLargestHeader)) {
    fail_safetensors(path, fmt::format("its header would be {} bytes long and it has {} in all",
                                       header_bytes, all.size()));
  }
  const auto* text = reinterpret_cast<const char*>(all.data()) + kLengthBytes;
  const auto header = nlohmann::json::parse(text, text + header_bytes, /*cb=*/nullptr,
                                            /*allow_exceptions=*/false);
  if (!header.is_object()) fail_safetensors(path, "its header is not a JSON object");
  for (const auto& [name, json] : header.items()) {
    if (name != "__metadata__") {
      file.entries_.emplace(name, parse_entry(path, name, json));
      continue;
    }
    if (!json.is_object()) fail_safetensors(path, "its __metadata__ is not an object");
    for (const auto& [key, value] : json.items()) {
      if (!value.is_string()) fail_safetensors(path, "its __metadata__ holds more than strings");
      file.metadata_.emplace(key, value.get<std::string>());
    }
  }
  file.data_ = all.subspan(kLengthBytes + header_bytes);
  check_layout(path, file.data_.size(), file.entries_);
  return file;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  for (const auto& [name, entry] : entries_) result.push_back(name);
  return result;
}

const SafetensorsEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    fail("Expected tensor '{}' in {}, but it has none; the nearest is '{}'", name, path_.string(),
         nearest_name(name, names()));
  }
  return found->second;
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
  const auto& found = entry(name);
  return data_.subspan(found.begin, found.end - found.begin);
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto& found = entry(name);
  auto copy = at::empty(found.shape, found.dtype);
  if (found.end > found.begin) {
    std::memcpy(copy.data_ptr(), data_.data() + found.begin, found.end - found.begin);
  }
  return copy;
}

at::Tensor SafetensorsFile::mapped(const std::string& name) const {
  const auto& found = entry(name);
  auto* begin = data_.data() + found.begin;
  const bool aligned = reinterpret_cast<uintptr_t>(begin) % c10::elementSize(found.dtype) == 0;
  if (!aligned || found.begin == found.end) return tensor(name);
  return at::from_blob(
      begin, found.shape, [map = map_](void*) {}, at::TensorOptions().dtype(found.dtype));
}

void SafetensorsFile::release(const std::string& name) const {
  map_->release(bytes(name));
}

}  // namespace megatron
