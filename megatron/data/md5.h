// MD5 (RFC 1321), used only for the names of Megatron's index caches. Not for security.
#pragma once

#include <string>
#include <string_view>

namespace megatron {

// 32 lower-case hexadecimal digits.
std::string md5_hex(std::string_view text);

}  // namespace megatron
