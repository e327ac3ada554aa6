// SIMD vectors of the processor's own width, for kernels that hold many of them in registers.
// (vector_math.h's vectors always have 64 bytes.) Only kernel files (*_cpu.cpp) include it.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "megatron/ops/core/vector_math.h"

namespace megatron::lanes {
inline namespace MEGATRON_KERNEL_LEVEL {

#if defined(__AVX512F__)
inline constexpr int kNativeBytes = 64;
#else
inline constexpr int kNativeBytes = 32;
#endif

using Native = float __attribute__((vector_size(kNativeBytes)));
using NativeWords = uint32_t __attribute__((vector_size(kNativeBytes)));
inline constexpr int kNativeWidth = kNativeBytes / 4;
using NativeHalfWords = uint16_t __attribute__((vector_size(kNativeBytes / 2)));

MEGATRON_INLINE Native native_broadcast(float value) {
  return Native{} + value;
}

MEGATRON_INLINE Native native_load(const float* from) {
  Native value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
MEGATRON_INLINE Native native_load(const c10::BFloat16* from) {
  NativeHalfWords halves;
  std::memcpy(&halves, from, sizeof(halves));
  return std::bit_cast<Native>(__builtin_convertvector(halves, NativeWords) << 16);
}
MEGATRON_INLINE Native native_load(const c10::Half* from) {
#if defined(__AVX512F__)
  return std::bit_cast<Native>(
      _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__F16C__)
  return std::bit_cast<Native>(
      _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
  Native value;
  for (int i = 0; i < kNativeWidth; ++i) value[i] = static_cast<float>(from[i]);
  return value;
#endif
}
MEGATRON_INLINE NativeWords native_words(const void* from) {
  NativeWords value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

MEGATRON_INLINE void native_store(float* to, Native value) {
  std::memcpy(to, &value, sizeof(value));
}

}  // namespace MEGATRON_KERNEL_LEVEL
}  // namespace megatron::lanes
