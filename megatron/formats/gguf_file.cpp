#include "megatron/formats/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <unordered_set>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/formats/gguf_format.h"
#include "megatron/formats/rectangle.h"
#include "megatron/ops/quantization/ggml_blocks.h"

namespace megatron {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF data is little-endian");

// Takes values off the front of a header. Every length is compared with what is left before it is
// used, so that a lying one costs neither memory nor time.
class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> bytes, const std::filesystem::path& path)
      : bytes_(bytes), path_(path) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  [[noreturn]] void refuse(const std::string& what) const {
    fail("Expected a GGUF file in {}, but {}; it is damaged or another kind of file",
         path_.string(), what);
  }

  template <typename T>
  T number(const char* what) {
    need(sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string text(const char* what) {
    const auto size = number<uint64_t>(what);
    need(size, what);
    std::string value(reinterpret_cast<const char*>(bytes_.data()) + position_,
                      static_cast<size_t>(size));
    position_ += value.size();
    return value;
  }

  // A number of things that take at least `least_bytes` each.
  size_t count(const char* what, size_t least_bytes) {
    const auto value = number<uint64_t>(what);
    if (value > left() / least_bytes) {
      refuse(fmt::format("it says {} {} at byte {} and only {} bytes follow", value, what,
                         position_ - sizeof(uint64_t), left()));
    }
    return static_cast<size_t>(value);
  }

  bool boolean() {
    const auto value = number<uint8_t>("a BOOL");
    if (value > 1) refuse(fmt::format("a BOOL at byte {} is {}", position_ - 1, value));
    return value == 1;
  }

 private:
  void need(uint64_t bytes, const char* what) const {
    if (bytes > left()) {
      refuse(fmt::format("it ends within {} at byte {}: {} bytes are left and {} needed", what,
                         position_, left(), bytes));
    }
  }

  std::span<const std::byte> bytes_;
  const std::filesystem::path& path_;
  size_t position_ = 0;
};

GgufArray read_array(HeaderReader& reader, int depth);

template <typename T>
T read_item(HeaderReader& reader, int depth) {
  if constexpr (std::is_same_v<T, bool>) {
    return reader.boolean();
  } else if constexpr (std::is_same_v<T, std::string>) {
    return reader.text("a STRING");
  } else if constexpr (std::is_same_v<T, GgufArray>) {
    return read_array(reader, depth + 1);
  } else {
    return reader.number<T>("a value");
  }
}

// The least number of bytes that a value takes in the file.
template <typename T>
constexpr size_t least_bytes() {
  if (std::is_same_v<T, bool>) return 1;
  if (std::is_same_v<T, std::string>) return 8;
  if (std::is_same_v<T, GgufArray>) return 12;
  return sizeof(T);
}

// Calls body.template operator()<T>() with the type of a number of the format.
template <size_t index = 0, typename Body>
void with_value_type(HeaderReader& reader, uint32_t number, const Body& body) {
  if constexpr (index == std::variant_size_v<GgufValue>) {
    reader.refuse(fmt::format("a value before byte {} has type {}; types are 0 to {}",
                              reader.position(), number, index - 1));
  } else if (number == index) {
    body.template operator()<std::variant_alternative_t<index, GgufValue>>();
  } else {
    with_value_type<index + 1>(reader, number, body);
  }
}

GgufArray read_array(HeaderReader& reader, int depth) {
  constexpr int kDeepest = 4;
  if (depth > kDeepest) {
    reader.refuse(
        fmt::format("arrays nest deeper than {} at byte {}", kDeepest, reader.position()));
  }
  GgufArray array;
  const auto type = reader.number<uint32_t>("the type of an array");
  with_value_type(reader, type, [&]<typename T>() {
    std::vector<T> values;
    const size_t count = reader.count("values of an array", least_bytes<T>());
    values.reserve(count);
    for (size_t i = 0; i < count; ++i) values.push_back(read_item<T>(reader, depth));
    array.values = std::move(values);
  });
  return array;
}

GgufValue read_value(HeaderReader& reader) {
  GgufValue value;
  const auto type = reader.number<uint32_t>("the type of a value");
  with_value_type(reader, type, [&]<typename T>() { value = read_item<T>(reader, 0); });
  return value;
}

// `offset`: of the data section, as the file says.
GgufEntry read_entry(HeaderReader& reader, const std::string& name, uint64_t& offset) {
  const auto dimensions = reader.number<uint32_t>("the number of dimensions of a tensor");
  if (dimensions > kGgufMostDimensions) {
    reader.refuse(fmt::format("tensor '{}' has {} dimensions; at most {} are possible", name,
                              dimensions, kGgufMostDimensions));
  }
  GgufEntry entry{.type = GgmlType::F32};
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = reader.number<uint64_t>("the shape of a tensor");
    if (size > uint64_t{INT64_MAX}) {
      reader.refuse(fmt::format("tensor '{}' has a dimension of {}", name, size));
    }
    entry.shape.insert(entry.shape.begin(), static_cast<int64_t>(size));
  }
  const auto type = reader.number<uint32_t>("the type of a tensor");
  offset = reader.number<uint64_t>("the offset of a tensor");
  const auto known = ggml_type(type);
  check(known.has_value(), "Expected tensor '{}' to have one of the types {}, but got {}", name,
        readable_ggml_types(), ggml_type_name(type));
  entry.type = *known;
  return entry;
}

// The bytes of a tensor; checked for overflow.
size_t size_in_bytes(const HeaderReader& reader, const std::string& name, const GgufEntry& entry) {
  const GgmlTypeSize size = ggml_type_size(entry.type);
  int64_t bytes = shape_volume(entry.shape);
  const int64_t row = entry.shape.empty() ? 1 : entry.shape.back();
  if (row % size.block_values != 0) {
    reader.refuse(fmt::format("tensor '{}' of shape {} has rows that are no multiple of {}'s {}",
                              name, format_shape(entry.shape), ggml_type_name(entry.type),
                              size.block_values));
  }
  if (__builtin_mul_overflow(bytes / size.block_values, size.block_bytes, &bytes)) {
    reader.refuse(fmt::format("tensor '{}' has shape {}", name, format_shape(entry.shape)));
  }
  return static_cast<size_t>(bytes);
}

uint32_t read_version(HeaderReader& reader) {
  const auto magic = reader.number<uint32_t>("the magic number");
  if (magic != kGgufMagic) reader.refuse("it does not begin with 'GGUF'");
  const auto version = reader.number<uint32_t>("the version");
  check((version & 0xFFFF) != 0 || version == 0,
        "Expected a little-endian GGUF file, but got a big-endian one; convert it with gguf's "
        "gguf-convert-endian");
  check(version == 2 || version == 3, "Expected a GGUF file of version 2 or 3, but got version {}",
        version);
  return version;
}

uint64_t read_alignment(const HeaderReader& reader, const GgufMetadata& metadata) {
  const auto* value = metadata.find(kGgufAlignmentKey);
  if (value == nullptr) return kGgufDefaultAlignment;
  const auto* alignment = std::get_if<uint32_t>(value);
  if (alignment == nullptr || *alignment < kGgufLeastAlignment ||
      !std::has_single_bit(*alignment)) {
    reader.refuse(fmt::format("{} is not a UINT32 power of two of at least {}", kGgufAlignmentKey,
                              kGgufLeastAlignment));
  }
  return *alignment;
}

// Tensors must not share bytes.
void check_disjoint(const HeaderReader& reader, const std::map<std::string, GgufEntry>& entries) {
  std::vector<std::pair<const std::string*, const GgufEntry*>> order;
  for (const auto& [name, entry] : entries) {
    if (entry.end > entry.begin) order.emplace_back(&name, &entry);
  }
  std::sort(order.begin(), order.end(),
            [](const auto& a, const auto& b) { return a.second->begin < b.second->begin; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i].second->begin < order[i - 1].second->end) {
      reader.refuse(
          fmt::format("tensors '{}' and '{}' overlap", *order[i - 1].first, *order[i].first));
    }
  }
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path)
    : path_(path), map_(std::make_shared<MappedFile>(path)), metadata_(path.string()) {
  const std::span<const std::byte> all = map_->bytes();
  HeaderReader reader(all, path_);
  read_version(reader);
  // A tensor takes at least 24 bytes (name, dimensions, type, offset), a metadata entry 13.
  const size_t tensors = reader.count("tensors", 24);
  const size_t keys = reader.count("metadata entries", 13);
  std::unordered_set<std::string> known_keys;
  for (size_t i = 0; i < keys; ++i) {
    std::string key = reader.text("a metadata key");
    if (!known_keys.insert(key).second) {
      reader.refuse(fmt::format("metadata key '{}' occurs twice", key));
    }
    metadata_.append(std::move(key), read_value(reader));
  }
  check(metadata_.integer("split.count", 0) <= 1,
        "Expected a model in one GGUF file, but {} is one of {} parts; merge them with llama.cpp's "
        "llama-gguf-split --merge",
        path_.string(), metadata_.integer("split.count", 0));
  const uint64_t alignment = read_alignment(reader, metadata_);
  std::vector<uint64_t> offsets;
  for (size_t i = 0; i < tensors; ++i) {
    names_.push_back(reader.text("the name of a tensor"));
    uint64_t offset = 0;
    GgufEntry entry = read_entry(reader, names_.back(), offset);
    offsets.push_back(offset);
    if (!entries_.emplace(names_.back(), std::move(entry)).second) {
      reader.refuse(fmt::format("tensor '{}' occurs twice", names_.back()));
    }
  }
  const size_t padding = (alignment - reader.position() % alignment) % alignment;
  // A file without data may end at its header.
  data_ = all.subspan(std::min(reader.position() + padding, all.size()));
  for (size_t i = 0; i < tensors; ++i) {
    GgufEntry& entry = entries_.at(names_[i]);
    const size_t bytes = size_in_bytes(reader, names_[i], entry);
    if (offsets[i] % alignment != 0 || offsets[i] > data_.size() ||
        bytes > data_.size() - offsets[i]) {
      reader.refuse(fmt::format(
          "tensor '{}' of {} bytes begins at byte {} of {} bytes of data, aligned to {}", names_[i],
          bytes, offsets[i], data_.size(), alignment));
    }
    entry.begin = static_cast<size_t>(offsets[i]);
    entry.end = entry.begin + bytes;
  }
  check_disjoint(reader, entries_);
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  return GgufFile(path);
}

bool GgufFile::is_gguf(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  uint32_t magic = 0;
  return file.read(reinterpret_cast<char*>(&magic), sizeof(magic)) && magic == kGgufMagic;
}

const GgufEntry& GgufFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    fail("Expected tensor '{}' in {}, but it has none; the nearest is '{}'", name, path_.string(),
         nearest_name(name, names_));
  }
  return found->second;
}

std::span<const std::byte> GgufFile::bytes(const std::string& name) const {
  const GgufEntry& found = entry(name);
  return data_.subspan(found.begin, found.end - found.begin);
}

at::Tensor GgufFile::tensor(const std::string& name, at::ScalarType dtype) const {
  const GgufEntry& found = entry(name);
  at::Tensor values = at::empty(found.shape, dtype);
  dequantize_ggml(found.type, bytes(name), values);
  return values;
}

void GgufFile::release(const std::string& name) const {
  map_->release(bytes(name));
}

}  // namespace megatron
