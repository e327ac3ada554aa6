// Draws the random words of dropout, 64 columns at a time. Only kernel files (*_cpu.cpp) include
// it.
#pragma once

#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/random/dropout_kernels.h"
#include "megatron/ops/random/dropout_mask.h"

namespace megatron::kernels {
inline namespace MEGATRON_KERNEL_LEVEL {

// The stream, head and position of one row.
struct RowKey {
  uint32_t key0, key1, head, position;
};

inline RowKey row_key(const DropoutRows& rows, int64_t row) {
  int64_t sample, head, position;
  if (rows.heads == 0) {
    position = row / rows.samples;
    sample = row % rows.samples;
    head = 0;
  } else {
    position = row % rows.position_count;
    const int64_t outer = row / rows.position_count;
    sample = outer / rows.heads;
    head = rows.head_offset + outer % rows.heads;
  }
  const uint64_t stream =
      dropout_stream(rows.seed, rows.layer, rows.site, rows.sample_ordinals[sample]);
  return {static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32),
          static_cast<uint32_t>(head), static_cast<uint32_t>(rows.positions[position])};
}

// The random words of 64 columns: word[j] holds those of columns 16 j .. 16 j + 15.
struct WordGroup {
  lanes::Words word[4];
};

// The high and low halves of the 64-bit products of a constant and 16 lanes.
MEGATRON_INLINE void multiply_wide(uint32_t constant, lanes::Words value, lanes::Words& high,
                                   lanes::Words& low) {
  using Wide = uint64_t __attribute__((vector_size(128)));
  const Wide product = __builtin_convertvector(value, Wide) * constant;
  high = __builtin_convertvector(product >> 32, lanes::Words);
  low = value * constant;
}

MEGATRON_INLINE WordGroup draw_group(const RowKey& key, int64_t group) {
  constexpr lanes::Words ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  lanes::Words c0 = ramp + static_cast<uint32_t>(group * 16);
  lanes::Words c1 = lanes::Words{} + key.position;
  lanes::Words c2 = lanes::Words{} + key.head;
  lanes::Words c3 = {};
  uint32_t k0 = key.key0, k1 = key.key1;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    lanes::Words high0, low0, high1, low1;
    multiply_wide(kPhiloxMultiplier0, c0, high0, low0);
    multiply_wide(kPhiloxMultiplier1, c2, high1, low1);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

// value * scale where the word keeps the element, else 0.
MEGATRON_INLINE lanes::Floats keep(lanes::Words words, uint32_t threshold, lanes::Floats value,
                                   lanes::Floats scale) {
  return words >= threshold ? value * scale : lanes::Floats{};
}

MEGATRON_INLINE lanes::Floats keep(const uint32_t* words, uint32_t threshold, lanes::Floats value,
                                   lanes::Floats scale) {
  lanes::Words loaded;
  std::memcpy(&loaded, words, sizeof(loaded));
  return keep(loaded, threshold, value, scale);
}

// 8 doubles and 8 words.
MEGATRON_INLINE lanes::Doubles keep(const uint32_t* words, uint32_t threshold, lanes::Doubles value,
                                    lanes::Doubles scale) {
  using Narrow = uint32_t __attribute__((vector_size(32)));
  Narrow narrow;
  std::memcpy(&narrow, words, sizeof(narrow));
  const auto wide = __builtin_convertvector(narrow, lanes::Longs);
  return wide >= static_cast<int64_t>(threshold) ? value * scale : lanes::Doubles{};
}

// Draws the words of columns first .. first + count - 1, for any first. Returns a pointer into
// `buffer`, which holds count + 128 words.
inline const uint32_t* draw_columns(const RowKey& key, int64_t first, int64_t count,
                                    uint32_t* buffer) {
  const int64_t skipped = first % 64;
  for (int64_t i = 0; i < skipped + count; i += 64) {
    const WordGroup group = draw_group(key, (first + i) / 64);
    std::memcpy(buffer + i, group.word, sizeof(group.word));
  }
  return buffer + skipped;
}

// Draws the words of the listed columns, in ascending order and at most `most`.
template <int64_t most>
const uint32_t* draw_listed_columns(const RowKey& key, const int64_t* columns, int64_t count,
                                    uint32_t* buffer) {
  if (columns[count - 1] - columns[0] == count - 1) {
    return draw_columns(key, columns[0], count, buffer);
  }
  uint32_t run[most + 128];
  for (int64_t first = 0, last; first < count; first = last) {
    last = first + 1;
    while (last < count && columns[last] == columns[last - 1] + 1) ++last;
    const uint32_t* words = draw_columns(key, columns[first], last - first, run);
    std::memcpy(buffer + first, words, (last - first) * sizeof(uint32_t));
  }
  return buffer;
}

}  // namespace MEGATRON_KERNEL_LEVEL
}  // namespace megatron::kernels
