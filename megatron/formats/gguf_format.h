// Constants of the GGUF format.
#pragma once

#include <cstdint>

namespace megatron {

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF"
inline constexpr uint32_t kGgufVersion = 3;         // that is written
inline constexpr uint32_t kGgufMostDimensions = 4;
inline constexpr uint32_t kGgufDefaultAlignment = 32;
inline constexpr uint32_t kGgufLeastAlignment = 8;
inline constexpr const char* kGgufAlignmentKey = "general.alignment";

}  // namespace megatron
