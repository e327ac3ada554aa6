// Decoding and encoding of ggml's blocks: CPU kernels. Every product here is exact in fp32 (11 bits
// of a half times at most 13 bits of integers), so results do not depend on the order of
// multiplications.
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/quantization/ggml_blocks_kernels.h"

namespace megatron::kernels {
namespace {

using lanes::Floats;
using lanes::Ints;
using lanes::Words;
using Bytes = uint8_t __attribute__((vector_size(16)));
using SignedBytes = int8_t __attribute__((vector_size(16)));

MEGATRON_INLINE float half_at(const uint8_t* from) {
  lanes::HalfWords halves{};
  std::memcpy(&halves, from, sizeof(uint16_t));
  return lanes::widen_half(halves)[0];
}

MEGATRON_INLINE uint32_t word_at(const uint8_t* from) {
  uint32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

// 16 bytes, each in a lane of 32 bits.
MEGATRON_INLINE Words bytes_at(const uint8_t* from) {
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof(bytes));
  return __builtin_convertvector(bytes, Words);
}

MEGATRON_INLINE Floats signed_bytes_at(const uint8_t* from) {
  SignedBytes bytes;
  std::memcpy(&bytes, from, sizeof(bytes));
  return __builtin_convertvector(__builtin_convertvector(bytes, Ints), Floats);
}

// Integers of at most 8 bits less `offset`.
MEGATRON_INLINE Floats integers(Words values, int32_t offset = 0) {
  return __builtin_convertvector(std::bit_cast<Ints>(values) - offset, Floats);
}

// Bits `first` to `first` + 15 of `word`, each moved to bit 4 of a lane.
MEGATRON_INLINE Words fifth_bits(uint32_t word, uint32_t first) {
  const Words place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return (((Words{} + (word >> first)) >> place) & 1u) << 4;
}

// Each format has its sizes and decode(block, emit), which calls emit(index of the first value, 16
// values) for all values of a block. Two values share a byte: its low four bits belong to the first
// half of a group, the high ones to the second.

struct Q8_0 {
  static constexpr int64_t kValues = 32, kBytes = 34;
  template <typename Emit>
  MEGATRON_INLINE static void decode(const uint8_t* block, const Emit& emit) {
    const float d = half_at(block);
    emit(0, signed_bytes_at(block + 2) * d);
    emit(16, signed_bytes_at(block + 18) * d);
  }
};

struct Q4_0 {
  static constexpr int64_t kValues = 32, kBytes = 18;
  template <typename Emit>
  MEGATRON_INLINE static void decode(const uint8_t* block, const Emit& emit) {
    const float d = half_at(block);
    const Words pairs = bytes_at(block + 2);
    emit(0, integers(pairs & 15u, 8) * d);
    emit(16, integers(pairs >> 4, 8) * d);
  }
};

struct Q4_1 {
  static constexpr int64_t kValues = 32, kBytes = 20;
  template <typename Emit>
  MEGATRON_INLINE static void decode(const uint8_t* block, const Emit& emit) {
    const float d = half_at(block), least = half_at(block + 2);
    const Words pairs = bytes_at(block + 4);
    emit(0, integers(pairs & 15u) * d + least);
    emit(16, integers(pairs >> 4) * d + least);
  }
};

struct Q5_0 {
  static constexpr int64_t kValues = 32, kBytes = 22;
  template <typename Emit>
  MEGATRON_INLINE static void decode(const uint8_t* block, const Emit& emit) {
    const float d = half_at(block);
    const uint32_t high = word_at(block + 2);
    const Words pairs = bytes_at(block + 6);
    emit(0, integers((pairs & 15u) | fifth_bits(high, 0), 16) * d);
    emit(16, integers((pairs >> 4) | fifth_bits(high, 16), 16) * d);
  }
};

struct Q5_1 {
  static constexpr int64_t kValues = 32, kBytes = 24;
  template <typename Emit>
  MEGATRON_INLINE static void decode(const uint8_t* block, const Emit& emit) {
    const float d = half_at(block), least = half_at(block + 2);
    const uint32_t high = word_at(block + 4);
    const Words pairs = bytes_at(block + 8);
    emit(0, integers((pairs & 15u) | fifth_bits(high, 0)) * d + least);
    emit(16, integers((pairs >> 4) | fifth_bits(high, 16)) * d + least);
  }
};

// Eight scales and eight minima of six bits in 12 bytes: those of groups 0 to 3 in the low bits of
// bytes 0-3 and 4-7; of groups 4 to 7 four bits in bytes 8-11 and the upper two above the former.
struct SixBitScales {
  float scale[8], least[8];
  MEGATRON_INLINE SixBitScales(const uint8_t* from, float d, float d_least) {
    for (int j = 0; j < 4; ++j) {
      scale[j] = d * static_cast<float>(from[j] & 63);
      least[j] = d_least * static_cast<float>(from[j + 4] & 63);
      scale[j + 4] = d * static_cast<float>((from[j + 8] & 15) | (from[j] >> 6 << 4));
      least[j + 4] = d_least * static_cast<float>((from[j + 8] >> 4) | (from[j + 4] >> 6 << 4));
    }
  }
};

struct Q4_K {
  static constexpr int64_t kValues = 256, kBytes = 144;
  template <typename Emit>
  MEGATRON_INLINE static void decode(const uint8_t* block, const Emit& emit) {
    const SixBitScales scales(block + 4, half_at(block), half_at(block + 2));
    for (int group = 0; group < 8; group += 2) {
      for (int part = 0; part < 32; part += 16) {
        const Words pairs = bytes_at(block + 16 + group * 16 + part);
        emit(group * 32 + part, integers(pairs & 15u) * scales.scale[group] - scales.least[group]);
        emit(group * 32 + 32 + part,
             integers(pairs >> 4) * scales.scale[group + 1] - scales.least[group + 1]);
      }
    }
  }
};

struct Q5_K {
  static constexpr int64_t kValues = 256, kBytes = 176;
  template <typename Emit>
  MEGATRON_INLINE static void decode(const uint8_t* block, const Emit& emit) {
    const SixBitScales scales(block + 4, half_at(block), half_at(block + 2));
    for (int part = 0; part < 32; part += 16) {
      const Words high = bytes_at(block + 16 + part);  // bit g: the fifth bit in group g
      for (int group = 0; group < 8; group += 2) {
        const Words pairs = bytes_at(block + 48 + group * 16 + part);
        const Words first = (pairs & 15u) | (((high >> group) & 1u) << 4);
        const Words second = (pairs >> 4) | (((high >> (group + 1)) & 1u) << 4);
        emit(group * 32 + part, integers(first) * scales.scale[group] - scales.least[group]);
        emit(group * 32 + 32 + part,
             integers(second) * scales.scale[group + 1] - scales.least[group + 1]);
      }
    }
  }
};

struct Q6_K {
  static constexpr int64_t kValues = 256, kBytes = 210;
  template <typename Emit>
  MEGATRON_INLINE static void decode(const uint8_t* block, const Emit& emit) {
    const float d = half_at(block + 208);
    const auto scale = [&](int group) {  // of 16 values
      return d * static_cast<float>(static_cast<int8_t>(block[192 + group]));
    };
    for (int half = 0; half < 2; ++half) {
      for (int part = 0; part < 2; ++part) {
        const Words first = bytes_at(block + half * 64 + part * 16);
        const Words second = bytes_at(block + half * 64 + 32 + part * 16);
        const Words high = bytes_at(block + 128 + half * 32 + part * 16);  // two bits of each
        const int to = half * 128 + part * 16;
        const int group = half * 8 + part;
        emit(to, integers((first & 15u) | ((high & 3u) << 4), 32) * scale(group));
        emit(to + 32, integers((second & 15u) | (((high >> 2) & 3u) << 4), 32) * scale(group + 2));
        emit(to + 64, integers((first >> 4) | (((high >> 4) & 3u) << 4), 32) * scale(group + 4));
        emit(to + 96, integers((second >> 4) | ((high >> 6) << 4), 32) * scale(group + 6));
      }
    }
  }
};

template <typename Format, typename T>
void decode_blocks(const uint8_t* from, int64_t blocks, T* out) {
  parallel_for(0, blocks, row_grain(Format::kValues), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      T* const to = out + block * Format::kValues;
      Format::decode(from + block * Format::kBytes,
                     [to](int64_t first, Floats values) { lanes::store<T>(to + first, values); });
    }
  });
}

}  // namespace

template <KernelLevel level, typename T>
void dequantize_ggml_blocks(GgmlType type, const uint8_t* from, int64_t blocks, T* out) {
  switch (type) {
    case GgmlType::Q8_0:
      return decode_blocks<Q8_0>(from, blocks, out);
    case GgmlType::Q4_0:
      return decode_blocks<Q4_0>(from, blocks, out);
    case GgmlType::Q4_1:
      return decode_blocks<Q4_1>(from, blocks, out);
    case GgmlType::Q5_0:
      return decode_blocks<Q5_0>(from, blocks, out);
    case GgmlType::Q5_1:
      return decode_blocks<Q5_1>(from, blocks, out);
    case GgmlType::Q4_K:
      return decode_blocks<Q4_K>(from, blocks, out);
    case GgmlType::Q5_K:
      return decode_blocks<Q5_K>(from, blocks, out);
    case GgmlType::Q6_K:
      return decode_blocks<Q6_K>(from, blocks, out);
    case GgmlType::F32:
    case GgmlType::F16:
    case GgmlType::BF16:
      return;  // not quantized: the caller converts these
  }
}

template <KernelLevel level>
void quantize_q8_0(const float* from, int64_t blocks, uint8_t* to) {
  // Rounds half away from zero; |x| <= 128.
  const auto round = [](Floats x) {
    const Ints whole = __builtin_convertvector(x, Ints);
    const Floats rest = x - __builtin_convertvector(whole, Floats);
    // Comparisons are -1 where they hold.
    return whole - Ints(rest >= 0.5f) + Ints(rest <= -0.5f);
  };
  parallel_for(0, blocks, row_grain(32), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const Floats values[2] = {lanes::load(from + block * 32),
                                lanes::load(from + block * 32 + 16)};
      float largest = 0;
      for (const Floats& part : values) {
        for (int i = 0; i < 16; ++i) {
          const float magnitude = part[i] < 0 ? -part[i] : part[i];
          largest = magnitude > largest ? magnitude : largest;
        }
      }
      const float d = largest / 127.0f;
      // Below, the inverse overflows and d is zero as a half.
      const float inverse = d > 0x1p-127f ? 1.0f / d : 0.0f;
      uint8_t* const out = to + block * 34;
      const auto half = lanes::narrow_to_half(Floats{} + d)[0];
      std::memcpy(out, &half, sizeof(half));
      for (int part = 0; part < 2; ++part) {
        const auto bytes = __builtin_convertvector(round(values[part] * inverse), SignedBytes);
        std::memcpy(out + 2 + part * 16, &bytes, sizeof(bytes));
      }
    }
  });
}

template void dequantize_ggml_blocks<kKernelLevel>(GgmlType, const uint8_t*, int64_t, float*);
template void dequantize_ggml_blocks<kKernelLevel>(GgmlType, const uint8_t*, int64_t,
                                                   c10::BFloat16*);
template void dequantize_ggml_blocks<kKernelLevel>(GgmlType, const uint8_t*, int64_t, c10::Half*);
template void quantize_q8_0<kKernelLevel>(const float*, int64_t, uint8_t*);

}  // namespace megatron::kernels
