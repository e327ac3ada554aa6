// Fields of protocol buffers on the wire: reading with every length checked, and writing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace megatron {

struct ProtobufField {
  uint64_t number = 0;
  uint64_t value = 0;        // of a varint or a fixed-width field
  std::string_view content;  // of a field with a length
};

// Calls accept(field) for each field of a message. False for malformed data, or once `accept` returns
// false.
bool visit_protobuf(std::string_view data, const std::function<bool(const ProtobufField&)>& accept);

// Append a field to a message.
void append_varint_field(std::string& message, uint64_t number, uint64_t value);
void append_float_field(std::string& message, uint64_t number, float value);
void append_bytes_field(std::string& message, uint64_t number, std::string_view content);

}  // namespace megatron
