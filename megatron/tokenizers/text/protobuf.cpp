#include "megatron/tokenizers/text/protobuf.h"

#include <bit>
#include <cstring>

namespace megatron {
namespace {

std::optional<uint64_t> take_varint(std::string_view& data) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !data.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(data.front());
    data.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

template <typename T>
std::optional<uint64_t> take_fixed(std::string_view& data) {
  T value;
  if (data.size() < sizeof(value)) return std::nullopt;
  std::memcpy(&value, data.data(), sizeof(value));
  data.remove_prefix(sizeof(value));
  return value;
}

void append_varint(std::string& message, uint64_t value) {
  for (; value >= 0x80; value >>= 7) message += static_cast<char>((value & 0x7F) | 0x80);
  message += static_cast<char>(value);
}

}  // namespace

bool visit_protobuf(std::string_view data,
                    const std::function<bool(const ProtobufField&)>& accept) {
  while (!data.empty()) {
    const auto key = take_varint(data);
    if (!key) return false;
    ProtobufField field{.number = *key >> 3};
    std::optional<uint64_t> value;
    switch (*key & 7) {
      case 0:
      case 2:
        value = take_varint(data);
        break;
      case 1:
        value = take_fixed<uint64_t>(data);
        break;
      case 5:
        value = take_fixed<uint32_t>(data);
        break;
      default:
        break;
    }
    if (!value) return false;
    if ((*key & 7) == 2) {
      if (*value > data.size()) return false;
      field.content = data.substr(0, *value);
      data.remove_prefix(*value);
    } else {
      field.value = *value;
    }
    if (!accept(field)) return false;
  }
  return true;
}

void append_varint_field(std::string& message, uint64_t number, uint64_t value) {
  append_varint(message, number << 3);
  append_varint(message, value);
}

void append_float_field(std::string& message, uint64_t number, float value) {
  append_varint(message, number << 3 | 5);
  const auto bits = std::bit_cast<uint32_t>(value);
  message.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
}

void append_bytes_field(std::string& message, uint64_t number, std::string_view content) {
  append_varint(message, number << 3 | 2);
  append_varint(message, content.size());
  message += content;
}

}  // namespace megatron
