// Quantizing to FP8 and FP4: CPU kernels. Codes follow from the bits of fp32: normal values by adding
// half a step to the bits, values below the format's smallest normal one by adding a float whose last
// place is the format's step.
#include <atomic>

#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/quantization/low_precision_kernels.h"
#include "megatron/ops/random/philox.h"

namespace megatron::kernels {
namespace {

using lanes::Floats;
using lanes::Ints;
using lanes::Words;
using CodeBytes = uint8_t __attribute__((vector_size(16)));

constexpr uint32_t kInfinityBits = 0x7F800000u;

MEGATRON_INLINE Words magnitude_bits(Floats x) {
  return std::bit_cast<Words>(x) & 0x7FFFFFFFu;
}

// The codes of magnitudes in a format with unlimited exponents; NaN gives some large code.
template <int mantissa_bits, int bias>
MEGATRON_INLINE Words round_to_codes(Words magnitude) {
  constexpr uint32_t shift = 23 - mantissa_bits;
  constexpr uint32_t smallest_normal = static_cast<uint32_t>(128 - bias) << 23;
  constexpr uint32_t step_bits = static_cast<uint32_t>(127 + 23 + 1 - bias - mantissa_bits) << 23;
  const Words normal =
      ((magnitude + ((1u << (shift - 1)) - 1u) + ((magnitude >> shift) & 1u)) >> shift) -
      (static_cast<uint32_t>(127 - bias) << mantissa_bits);
  const Words subnormal =
      std::bit_cast<Words>(std::bit_cast<Floats>(magnitude) + std::bit_cast<float>(step_bits)) -
      step_bits;
  return magnitude < smallest_normal ? subnormal : normal;
}

// One byte: sign, exponent, mantissa. `largest` is the code of the largest finite value; the next one
// is what lies beyond it, NaN in e4m3 and infinity in e5m2. 0x7F is NaN in both.
template <CastOverflow overflow, int mantissa_bits, int bias, uint32_t largest>
struct OneByteFloat {
  MEGATRON_INLINE static Words encode(Floats x) {
    const Words magnitude = magnitude_bits(x);
    Words code = round_to_codes<mantissa_bits, bias>(magnitude);
    code = code > largest ? Words{} + (overflow == CastOverflow::saturate ? largest : largest + 1)
                          : code;
    code = magnitude > kInfinityBits ? Words{} + 0x7Fu : code;
    return code | ((std::bit_cast<Words>(x) >> 24) & 0x80u);
  }
};
template <CastOverflow overflow>
using E4M3 = OneByteFloat<overflow, 3, 7, 0x7E>;
template <CastOverflow overflow>
using E5M2 = OneByteFloat<overflow, 2, 15, 0x7B>;

struct E2M1 {
  MEGATRON_INLINE static Words encode(Floats x) {
    const Words magnitude = magnitude_bits(x);
    Words code = round_to_codes<1, 1>(magnitude);
    code = code > 7u ? Words{} + 7u : code;
    code |= (std::bit_cast<Words>(x) >> 28) & 8u;
    return magnitude > kInfinityBits ? Words{} + 7u : code;
  }
};

// Up with the probability of the distance to the lower neighbour, in steps of 2^-24.
MEGATRON_INLINE Words encode_e2m1_stochastically(Floats x, Words random) {
  const Words magnitude_word = magnitude_bits(x);
  const Floats wide = std::bit_cast<Floats>(magnitude_word);
  const Floats magnitude = wide > 6.0f ? Floats{} + 6.0f : wide;
  // Positions on the scale of codes: the steps are 1/2 below 2, 1 below 4, 2 below 6.
  const Floats low = magnitude * 2.0f;
  const Floats middle = magnitude - 2.0f;
  const Floats high = (magnitude - 4.0f) * 0.5f;
  const Floats position = magnitude < 2.0f ? low : magnitude < 4.0f ? middle : high;
  const Words base = magnitude < 2.0f ? Words{} : magnitude < 4.0f ? Words{} + 4u : Words{} + 6u;
  const Ints whole = __builtin_convertvector(position, Ints);
  const Floats rest = position - __builtin_convertvector(whole, Floats);
  const Floats draw = __builtin_convertvector(std::bit_cast<Ints>(random >> 8), Floats) * 0x1p-24f;
  Words code = base + std::bit_cast<Words>(whole) + (draw < rest ? Words{} + 1u : Words{});
  code |= (std::bit_cast<Words>(x) >> 28) & 8u;
  return magnitude_word > kInfinityBits ? Words{} + 7u : code;
}

// To the nearest power of two; ties go up, except half of the smallest.
struct E8M0 {
  MEGATRON_INLINE static Words encode(Floats x) {
    const Words magnitude = magnitude_bits(x);
    const Words exponent = magnitude >> 23, mantissa = magnitude & 0x7FFFFFu;
    const Words threshold = exponent == 0u ? Words{} + 0x400001u : Words{} + 0x400000u;
    const Words rounded = exponent + (mantissa >= threshold ? Words{} + 1u : Words{});
    return exponent == 255u ? exponent : rounded;
  }
};

// Calls body(encoder) with the encoder of a format.
template <typename Body>
MEGATRON_INLINE void with_encoder(LowPrecisionFormat format, CastOverflow overflow,
                                  const Body& body) {
  const bool saturate = overflow == CastOverflow::saturate;
  switch (format) {
    case LowPrecisionFormat::e4m3:
      return saturate ? body(E4M3<CastOverflow::saturate>()) : body(E4M3<CastOverflow::special>());
    case LowPrecisionFormat::e5m2:
      return saturate ? body(E5M2<CastOverflow::saturate>()) : body(E5M2<CastOverflow::special>());
    case LowPrecisionFormat::e2m1:
      return body(E2M1());
    case LowPrecisionFormat::e8m0:
      return body(E8M0());
  }
}

MEGATRON_INLINE void store_codes(uint8_t* to, Words codes, int64_t count) {
  const CodeBytes bytes = __builtin_convertvector(codes, CodeBytes);
  if (count == 16) {
    std::memcpy(to, &bytes, sizeof(bytes));
  } else {
    for (int i = 0; i < 16 && i < count; ++i) to[i] = bytes[i];
  }
}

// Two codes of four bits to a byte; the even one in the low half.
MEGATRON_INLINE void store_nibbles(uint8_t* to, Words codes, int64_t count) {
  uint8_t bytes[16];
  store_codes(bytes, codes, 16);
  uint8_t pairs[8];
  for (int i = 0; i < 8; ++i) {
    pairs[i] = static_cast<uint8_t>(bytes[2 * i] | (bytes[2 * i + 1] << 4));
  }
  for (int i = 0; i < 8 && 2 * i < count; ++i) to[i] = pairs[i];
}

// One scalar through a vector encoder.
template <typename Encoder>
MEGATRON_INLINE uint8_t encode_one(float value) {
  return static_cast<uint8_t>(Encoder::encode(Floats{} + value)[0]);
}

MEGATRON_INLINE float decode_e4m3(uint8_t code) {
  const uint32_t magnitude = code & 0x7Fu;
  if (magnitude == 0x7Fu) return std::bit_cast<float>(0x7FC00000u);
  // As decode_lanes does.
  const float value = std::bit_cast<float>(magnitude << 20) * 0x1p120f;
  return (code & 0x80u) ? -value : value;
}

// The multiplications move the exponent's bias to 127; subnormal codes become exact.
MEGATRON_INLINE Floats decode_lanes(Words codes, LowPrecisionFormat format) {
  switch (format) {
    case LowPrecisionFormat::e4m3: {
      const Words magnitude = codes & 0x7Fu;
      Words bits = std::bit_cast<Words>(std::bit_cast<Floats>(magnitude << 20) * 0x1p120f);
      bits = magnitude == 0x7Fu ? Words{} + 0x7FC00000u : bits;
      return std::bit_cast<Floats>(bits | ((codes & 0x80u) << 24));
    }
    case LowPrecisionFormat::e5m2: {
      const Words magnitude = codes & 0x7Fu;
      Words bits = std::bit_cast<Words>(std::bit_cast<Floats>(magnitude << 21) * 0x1p112f);
      bits = magnitude == 0x7Cu ? Words{} + kInfinityBits : bits;
      bits = magnitude > 0x7Cu ? Words{} + 0x7FC00000u : bits;
      return std::bit_cast<Floats>(bits | ((codes & 0x80u) << 24));
    }
    case LowPrecisionFormat::e2m1: {
      const Words bits = std::bit_cast<Words>(std::bit_cast<Floats>((codes & 7u) << 22) * 0x1p126f);
      return std::bit_cast<Floats>(bits | ((codes & 8u) << 28));
    }
    case LowPrecisionFormat::e8m0: {
      Words bits = codes << 23;
      bits = codes == 0u ? Words{} + 0x400000u : bits;
      bits = codes == 255u ? Words{} + 0x7FC00000u : bits;
      return std::bit_cast<Floats>(bits);
    }
  }
  return Floats{};
}

// Random words for 16 columns of a row from `column`.
MEGATRON_INLINE Words draw_words(const StochasticDraws& draws, int64_t row, int64_t column) {
  const int64_t global_row = draws.first_row + row, global_column = draws.first_column + column;
  uint32_t words[4][8];
  philox4x32_10_lanes<8>(static_cast<uint32_t>(global_column / 4),
                         static_cast<uint32_t>(global_row), static_cast<uint32_t>(global_row >> 32),
                         0, draws.key0, draws.key1, words[0], words[1], words[2], words[3]);
  uint32_t chosen[16];
  const int skip = static_cast<int>(global_column % 4);
  for (int i = 0; i < 16; ++i) chosen[i] = words[(i + skip) % 4][(i + skip) / 4];
  Words result;
  std::memcpy(&result, chosen, sizeof(result));
  return result;
}

// From here on a magnitude rounds beyond the largest value: half a step above it, where the tie goes
// up, or the float after it.
MEGATRON_INLINE float overflow_threshold(LowPrecisionFormat format) {
  return format == LowPrecisionFormat::e4m3   ? 464.00003f
         : format == LowPrecisionFormat::e5m2 ? 61440.0f
                                              : 7.0f;
}

// Counts of one thread, by lane; added to those of all threads at the end.
class LaneCounts {
 public:
  explicit LaneCounts(LowPrecisionFormat format)
      : threshold_(overflow_threshold(format)),
        magnitude_(format == LowPrecisionFormat::e2m1 ? 7u : 0x7Fu) {}

  // x are the elements, `scaled` what was encoded. Lanes past the end hold 0 and do not count.
  MEGATRON_INLINE void add(Floats x, Floats scaled, Words codes) {
    const Floats wide = std::bit_cast<Floats>(magnitude_bits(scaled));
    saturated_ -= wide >= threshold_;  // true is -1
    underflowed_ -= (x != 0.0f) & std::bit_cast<Ints>((codes & magnitude_) == 0u);
  }

  void add_to(QuantizationCounts& counts) const {
    int64_t saturated = 0, underflowed = 0;
    for (int i = 0; i < 16; ++i) {
      saturated += saturated_[i];
      underflowed += underflowed_[i];
    }
    std::atomic_ref(counts.saturated).fetch_add(saturated, std::memory_order_relaxed);
    std::atomic_ref(counts.underflowed).fetch_add(underflowed, std::memory_order_relaxed);
  }

 private:
  float threshold_;
  uint32_t magnitude_;
  Ints saturated_{}, underflowed_{};
};

MEGATRON_INLINE Words load_codes(const uint8_t* from, int64_t count) {
  CodeBytes bytes{};
  if (count == 16) {
    std::memcpy(&bytes, from, sizeof(bytes));
  } else {
    for (int i = 0; i < 16 && i < count; ++i) bytes[i] = from[i];
  }
  return __builtin_convertvector(bytes, Words);
}

// Two codes to a byte, the even one in the low half; `from` is the byte of the first.
MEGATRON_INLINE Words load_nibbles(const uint8_t* from, int64_t count) {
  CodeBytes codes{};
  for (int i = 0; i < 16 && i < count; ++i)
    codes[i] = static_cast<uint8_t>(i % 2 == 0 ? from[i / 2] & 0x0F : from[i / 2] >> 4);
  return __builtin_convertvector(codes, Words);
}

struct Block {
  int64_t row, row_end, column, column_end;
};

template <typename T>
MEGATRON_INLINE float block_absolute_max(const T* x, int64_t columns, const Block& block) {
  // As integers the bits of NaN are above those of infinity, so that a NaN stays.
  Ints largest{};
  for (int64_t row = block.row; row < block.row_end; ++row) {
    const T* const from = x + row * columns + block.column;
    lanes::for_each_vector<T>(block.column_end - block.column, [&](int64_t first, auto count) {
      const Ints bits = std::bit_cast<Ints>(magnitude_bits(lanes::load<T>(from + first, count)));
      largest = lanes::maximum(largest, bits);
    });
  }
  int32_t result = 0;
  for (int i = 0; i < 16; ++i) result = largest[i] > result ? largest[i] : result;
  return std::bit_cast<float>(result);
}

// The factor of a block's elements; writes the scale of block `index`.
MEGATRON_INLINE float scale_block(const BlockScale& scale, float amax, int64_t index) {
  switch (scale.kind) {
    case BlockScale::Kind::fp32: {
      const float factor =
          fp32_scale(amax, largest_value(scale.format), scale.rule, scale.scale_if_infinite);
      static_cast<float*>(scale.scales)[index] = 1.0f / factor;
      return factor;
    }
    case BlockScale::Kind::e8m0: {
      const uint8_t code = e8m0_round_up(amax / largest_value(scale.format));
      static_cast<uint8_t*>(scale.scales)[index] = code;
      return e8m0_inverse(code);
    }
    case BlockScale::Kind::nvfp4: {
      const uint8_t code =
          encode_one<E4M3<CastOverflow::saturate>>(nvfp4_block_scale(amax, scale.tensor_scale));
      static_cast<uint8_t*>(scale.scales)[index] = code;
      return nvfp4_element_scale(decode_e4m3(code), scale.tensor_scale);
    }
  }
  return 1.0f;
}

template <typename Encoder, typename T>
void quantize_all_blocks(const T* x, const BlockedShape& shape, const BlockScale& scale,
                         const StochasticDraws& draws, uint8_t* codes, QuantizationCounts& counts) {
  constexpr bool packed = std::is_same_v<Encoder, E2M1>;
  const int64_t block_rows = (shape.rows + shape.block_rows - 1) / shape.block_rows;
  const int64_t per_row = (shape.columns + shape.block_columns - 1) / shape.block_columns;
  const int64_t bytes = packed ? shape.columns / 2 : shape.columns;
  parallel_for(
      0, block_rows, row_grain(shape.columns * shape.block_rows), [&](int64_t begin, int64_t end) {
        LaneCounts local(scale.format);
        for (int64_t index = begin * per_row; index < end * per_row; ++index) {
          Block block;
          block.row = index / per_row * shape.block_rows;
          block.column = index % per_row * shape.block_columns;
          block.row_end = block.row + shape.block_rows;
          block.column_end = block.column + shape.block_columns;
          if (block.row_end > shape.rows) block.row_end = shape.rows;
          if (block.column_end > shape.columns) block.column_end = shape.columns;
          const float factor =
              scale_block(scale, block_absolute_max(x, shape.columns, block), index);
          for (int64_t row = block.row; row < block.row_end; ++row) {
            const T* const from = x + row * shape.columns + block.column;
            lanes::for_each_vector<T>(
                block.column_end - block.column, [&](int64_t first, auto count) {
                  const Floats value = lanes::load<T>(from + first, count);
                  const Floats scaled = value * factor;
                  const int64_t column = block.column + first;
                  if constexpr (packed) {
                    const Words code = draws.enabled ? encode_e2m1_stochastically(
                                                           scaled, draw_words(draws, row, column))
                                                     : E2M1::encode(scaled);
                    local.add(value, scaled, code);
                    store_nibbles(codes + row * bytes + column / 2, code, count);
                  } else {
                    const Words code = Encoder::encode(scaled);
                    local.add(value, scaled, code);
                    store_codes(codes + row * bytes + column, code, count);
                  }
                });
          }
        }
        local.add_to(counts);
      });
}

}  // namespace

template <KernelLevel level, typename T>
float absolute_max(const T* x, int64_t n) {
  std::atomic<int32_t> largest = 0;
  parallel_for(0, n, 1 << 16, [&](int64_t begin, int64_t end) {
    const int32_t part =
        std::bit_cast<int32_t>(block_absolute_max(x, /*columns=*/n, Block{0, 1, begin, end}));
    int32_t seen = largest.load();
    while (seen < part && !largest.compare_exchange_weak(seen, part)) {
    }
  });
  return std::bit_cast<float>(largest.load());
}

template <KernelLevel level, typename T>
void cast_to_codes(const T* x, int64_t n, float scale, LowPrecisionFormat format,
                   CastOverflow overflow, uint8_t* codes, QuantizationCounts* counts) {
  with_encoder(format, overflow, [&](auto encoder) {
    parallel_for(0, n, 1 << 15, [&](int64_t begin, int64_t end) {
      LaneCounts local(format);
      lanes::for_each_vector<T>(end - begin, [&](int64_t first, auto count) {
        const Floats value = lanes::load<T>(x + begin + first, count);
        const Floats scaled = value * scale;
        const Words code = decltype(encoder)::encode(scaled);
        if (counts != nullptr) local.add(value, scaled, code);
        store_codes(codes + begin + first, code, count);
      });
      if (counts != nullptr) local.add_to(*counts);
    });
  });
}

template <KernelLevel level>
void decode_codes(const uint8_t* codes, int64_t n, LowPrecisionFormat format, float* values) {
  parallel_for(0, n, 1 << 15, [&](int64_t begin, int64_t end) {
    lanes::for_each_vector<float>(end - begin, [&](int64_t first, auto count) {
      const Words words = load_codes(codes + begin + first, count);
      lanes::store<float>(values + begin + first, decode_lanes(words, format), count);
    });
  });
}

template <KernelLevel level, typename T>
void expand_codes(const uint8_t* codes, const BlockedShape& shape, LowPrecisionFormat format,
                  const float* scales, T* values) {
  const bool packed = format == LowPrecisionFormat::e2m1;
  const int64_t per_row = (shape.columns + shape.block_columns - 1) / shape.block_columns;
  const int64_t bytes = packed ? shape.columns / 2 : shape.columns;
  parallel_for(0, shape.rows, row_grain(shape.columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* const row_scales = scales + row / shape.block_rows * per_row;
      for (int64_t block = 0; block < per_row; ++block) {
        const int64_t first_column = block * shape.block_columns;
        const int64_t size = shape.columns - first_column < shape.block_columns
                                 ? shape.columns - first_column
                                 : shape.block_columns;
        const float scale = row_scales[block];
        T* const to = values + row * shape.columns + first_column;
        lanes::for_each_vector<T>(size, [&](int64_t first, auto count) {
          const int64_t column = first_column + first;
          const Words words = packed ? load_nibbles(codes + row * bytes + column / 2, count)
                                     : load_codes(codes + row * bytes + column, count);
          lanes::store<T>(to + first, decode_lanes(words, format) * scale, count);
        });
      }
    }
  });
}

template <KernelLevel level, typename T>
void quantize_blocks(const T* x, const BlockedShape& shape, const BlockScale& scale,
                     const StochasticDraws& draws, uint8_t* codes, QuantizationCounts& counts) {
  with_encoder(scale.format, CastOverflow::saturate, [&](auto encoder) {
    quantize_all_blocks<decltype(encoder)>(x, shape, scale, draws, codes, counts);
  });
}

template <KernelLevel level, typename T>
void hadamard_transform(const T* x, int64_t n, T* out) {
  // Transformer Engine's signs, and the signs of the butterflies: lane i of stage d subtracts where
  // bit d of i is set.
  constexpr Floats signs = {1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1};
  constexpr Ints ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  parallel_for(0, n / 16, 1 << 11, [&](int64_t begin, int64_t end) {
    for (int64_t run = begin; run < end; ++run) {
      Floats value = lanes::load<T>(x + run * 16) * signs;
      for (int distance = 1; distance < 16; distance *= 2) {
        const Floats other = lanes::exchange(value, distance);
        value = (ramp & distance) != 0 ? other - value : value + other;
      }
      lanes::store<T>(out + run * 16, value * 0.25f);
    }
  });
}

#define MEGATRON_INSTANTIATE(T)                                                                 \
  template float absolute_max<kKernelLevel>(const T*, int64_t);                                 \
  template void cast_to_codes<kKernelLevel>(const T*, int64_t, float, LowPrecisionFormat,       \
                                            CastOverflow, uint8_t*, QuantizationCounts*);       \
  template void quantize_blocks<kKernelLevel>(const T*, const BlockedShape&, const BlockScale&, \
                                              const StochasticDraws&, uint8_t*,                 \
                                              QuantizationCounts&);                             \
  template void hadamard_transform<kKernelLevel>(const T*, int64_t, T*);

MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(c10::BFloat16)
MEGATRON_INSTANTIATE(c10::Half)
#undef MEGATRON_INSTANTIATE
template void decode_codes<kKernelLevel>(const uint8_t*, int64_t, LowPrecisionFormat, float*);
template void expand_codes<kKernelLevel>(const uint8_t*, const BlockedShape&, LowPrecisionFormat,
                                         const float*, float*);
template void expand_codes<kKernelLevel>(const uint8_t*, const BlockedShape&, LowPrecisionFormat,
                                         const float*, c10::BFloat16*);

}  // namespace megatron::kernels
