// Base64 (RFC 4648), as tokenizer files use it for bytes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace megatron {

// Nothing for text that is not base64 with its padding.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace megatron
