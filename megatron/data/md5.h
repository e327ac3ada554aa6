// MD5 (RFC 1321), only because Megatron names its index caches by it. Not for security.
#pragma once

#include <string>
#include <string_view>

namespace megatron {

// 32 lower-case hexadecimal digits.
std::string md5_hex(std::string_view text);

}  // namespace megatron
