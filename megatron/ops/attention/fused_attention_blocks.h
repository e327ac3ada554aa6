// Shared by the forward and backward kernels of fused attention: block sizes, tasks, and packing of
// block_gemm's operands. Only kernel files (*_cpu.cpp) include it.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <vector>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "megatron/base/integer_math.h"
#include "megatron/ops/attention/fused_attention_kernels.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/matmul/block_gemm.h"
#include "megatron/ops/random/dropout_lanes.h"

namespace megatron::kernels {

inline constexpr int64_t kQueryBlock = 64;
inline constexpr int64_t kKeyBlock = 128;
// Edge blocks are rounded up to multiples of these, so that block_gemm sees few shapes.
inline constexpr int64_t kRowStep = 16, kColumnStep = 64;
inline constexpr double kLog2E = 1.44269504088896340736;

// Head dimensions are zero-padded to full vectors.
inline int64_t padded_width(int64_t d) {
  return round_up(d, 16);
}

// Uninitialised storage, aligned to cache lines.
template <typename T>
class AlignedBuffer {
 public:
  explicit AlignedBuffer(int64_t size)
      : data_(static_cast<T*>(::operator new(std::max<int64_t>(size, 1) * sizeof(T), kAlignment))) {
  }
  T* data() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Delete {
    void operator()(T* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<T, Delete> data_;
};

// The keys that a query of the sequence sees, counted within the sequence.
inline KeyRange visible_keys(const FusedAttentionShape& shape, const AttentionSequence& sequence,
                             int64_t query) {
  const KeyRange& range = shape.visible[sequence.first_query + query];
  return {range.first - sequence.first_key, range.last - sequence.first_key};
}

// The random words of one row of dropout for keys key .. key + count - 1 of the sequence; the range
// may extend past the last key. `buffer` holds count + 128 words.
inline const uint32_t* draw_keys(const FusedAttentionShape& shape,
                                 const AttentionSequence& sequence, int64_t row, int64_t key,
                                 int64_t count, uint32_t* buffer) {
  const RowKey stream = row_key(*shape.dropout, row);
  const int64_t first = sequence.first_key + key;
  if (shape.columns == nullptr) return draw_columns(stream, first, count, buffer);
  return draw_listed_columns<kKeyBlock>(stream, shape.columns + first,
                                        std::min(count, sequence.keys - key), buffer);
}

// Numbers the key blocks of all sequences. The tiles of one key-value head of a sequence are
// consecutive.
class KeyBlocks {
 public:
  explicit KeyBlocks(const FusedAttentionShape& shape) : groups_(shape.g) {
    first_.push_back(0);
    for (const AttentionSequence& s : shape.sequences) {
      first_.push_back(first_.back() + ceil_div(s.keys, kKeyBlock));
    }
  }
  int64_t tiles() const { return first_.back() * groups_; }
  int64_t in_sequence(int64_t sequence) const { return first_[sequence + 1] - first_[sequence]; }
  int64_t most_in_sequence() const {
    int64_t most = 0;
    for (size_t i = 1; i < first_.size(); ++i) most = std::max(most, first_[i] - first_[i - 1]);
    return most;
  }
  int64_t tile(int64_t sequence, int64_t group, int64_t block) const {
    return first_[sequence] * groups_ + group * in_sequence(sequence) + block;
  }

 private:
  int64_t groups_;
  std::vector<int64_t> first_;
};

// A block of queries of a query head, or of keys of a key-value head.
struct AttentionTask {
  int64_t sequence, head, block;
};

inline std::vector<AttentionTask> key_tasks(const FusedAttentionShape& shape) {
  std::vector<AttentionTask> tasks;
  for (int64_t s = 0; s < static_cast<int64_t>(shape.sequences.size()); ++s) {
    for (int64_t g = 0; g < shape.g; ++g) {
      const int64_t blocks = ceil_div(shape.sequences[s].keys, kKeyBlock);
      for (int64_t i = 0; i < blocks; ++i) tasks.push_back({s, g, i});
    }
  }
  return tasks;
}

// Calls body(i, scratch) for every i < count; each thread has its own Scratch(call). Threads claim
// the next task when they finish one, since tasks differ in size; results must not depend on the
// order.
template <typename Scratch, typename Call, typename Body>
void for_each_task(int64_t count, const Call& call, const Body& body) {
  std::atomic<int64_t> next{0};
  parallel_for(0, count, 1, [&](int64_t, int64_t) {
    Scratch scratch(call);
    for (int64_t i = next++; i < count; i = next++) body(i, scratch);
    block_gemm_release();
  });
}

// Copies rows as block_gemm's A, [padded_rows][padded], zero-padded.
template <typename T>
void copy_rows(const T* from, int64_t stride, int64_t rows, int64_t width, T* to,
               int64_t padded_rows, int64_t padded) {
  for (int64_t i = 0; i < padded_rows; ++i) {
    T* row = to + i * padded;
    const int64_t filled = i < rows ? width : 0;
    if (filled > 0) std::memcpy(row, from + i * stride, filled * sizeof(T));
    if (filled < padded) std::memset(row + filled, 0, (padded - filled) * sizeof(T));
  }
}

// One round of transposing 16 rows of 16 words in registers; the rounds swap blocks of 8, 4, 2, 1.
template <int distance>
MEGATRON_INLINE void swap_blocks(lanes::Words (&tile)[16]) {
  constexpr lanes::Ints ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // Lanes with the bit `distance` come from the pair's other row; indices from 16 on select from b.
  const lanes::Ints odd = (ramp & distance) != 0;
  const lanes::Ints into_a = odd ? ramp + (16 - distance) : ramp;
  const lanes::Ints into_b = odd ? ramp + 16 : ramp + distance;
  for (int i = 0; i < 16; ++i) {
    if (i & distance) continue;
    const lanes::Words a = tile[i], b = tile[i + distance];
    tile[i] = __builtin_shuffle(a, b, into_a);
    tile[i + distance] = __builtin_shuffle(a, b, into_b);
  }
}

MEGATRON_INLINE void transpose_tile(lanes::Words (&tile)[16]) {
  swap_blocks<8>(tile);
  swap_blocks<4>(tile);
  swap_blocks<2>(tile);
  swap_blocks<1>(tile);
}

// Transposes words: load(row, column) returns 16 words of a row starting at `column`, and
// store(column, row, words) receives 16 words of a column starting at `row`. rows is a multiple of
// 16.
template <typename Load, typename Store>
MEGATRON_INLINE void transpose_words(int64_t rows, int64_t columns, const Load& load,
                                     const Store& store) {
  for (int64_t row = 0; row < rows; row += 16) {
    for (int64_t column = 0; column < columns; column += 16) {
      lanes::Words tile[16];
      for (int i = 0; i < 16; ++i) tile[i] = load(row + i, column);
      transpose_tile(tile);
      const int64_t count = std::min<int64_t>(16, columns - column);
      for (int64_t i = 0; i < count; ++i) store(column + i, row, tile[i]);
    }
  }
}

// 16 words of a row of `bytes` bytes, starting at word `column`; zeros past its end.
MEGATRON_INLINE lanes::Words load_words(const void* row, int64_t bytes, int64_t column) {
  lanes::Words words = {};
  const auto* from = static_cast<const char*>(row) + column * 4;
  const int64_t count = bytes - column * 4;
  if (count >= 64) {
    std::memcpy(&words, from, 64);
  } else if (count > 0) {
    std::memcpy(&words, from, count);
  }
  return words;
}

// Writes X^T [padded, padded_rows] of X [rows, width] as block_gemm's B.
template <typename T>
void pack_transposed(const T* from, int64_t stride, int64_t rows, int64_t width, T* to,
                     int64_t padded_rows, int64_t padded) {
  if constexpr (std::is_same_v<T, double>) {
    for (int64_t c = 0; c < padded; ++c) {
      for (int64_t r = 0; r < padded_rows; ++r) {
        to[c * padded_rows + r] = r < rows && c < width ? from[r * stride + c] : 0;
      }
    }
  } else {
    // A pair of bf16 moves as one word.
    const int64_t words = padded * static_cast<int64_t>(sizeof(T)) / 4;
    transpose_words(
        padded_rows, words,
        [&](int64_t row, int64_t column) {
          return row < rows ? load_words(from + row * stride, width * sizeof(T), column)
                            : lanes::Words{};
        },
        [&](int64_t column, int64_t row, lanes::Words value) {
          std::memcpy(reinterpret_cast<char*>(to) + (column * padded_rows + row) * 4, &value,
                      sizeof(value));
        });
  }
}

// Writes X^T [padded, padded_rows] of X [rows, width] as block_gemm's A.
template <typename T>
void transpose_rows(const T* from, int64_t stride, int64_t rows, int64_t width, T* to,
                    int64_t padded_rows, int64_t padded) {
  if constexpr (!std::is_same_v<T, c10::BFloat16>) {
    pack_transposed(from, stride, rows, width, to, padded_rows, padded);
  } else {
    transpose_words(
        padded_rows, padded,
        [&](int64_t row, int64_t column) {
          const int64_t count = std::clamp<int64_t>(width - column, 0, 16);
          if (row >= rows || count == 0) return lanes::Words{};
          return std::bit_cast<lanes::Words>(lanes::load<T>(from + row * stride + column, count));
        },
        [&](int64_t column, int64_t row, lanes::Words value) {
          const auto halves = __builtin_convertvector(value >> 16, lanes::HalfWords);
          std::memcpy(to + column * padded_rows + row, &halves, sizeof(halves));
        });
  }
}

// Stores probabilities or their gradients as T. bf16 uses the processor's conversion if there is
// one (it flushes subnormals to 0).
template <typename T>
MEGATRON_INLINE void store_row(T* to, lanes::Vector<T> value) {
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    const __m256bh halves = _mm512_cvtneps_pbh(std::bit_cast<__m512>(value));
    std::memcpy(to, &halves, sizeof(halves));
    return;
  }
#endif
  lanes::store<T>(to, value);
}

// Stores one vector each of the rows `row` (even) and `row` + 1 of block_gemm's B, at `column`.
template <typename T>
MEGATRON_INLINE void store_pair(T* to, int64_t ld, int64_t row, int64_t column,
                                lanes::Vector<T> even, lanes::Vector<T> odd) {
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
#if defined(__AVX512BF16__)
    using Halves = uint16_t __attribute__((vector_size(64)));
    constexpr Halves interleave = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                   8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512bh rounded =
        _mm512_cvtne2ps_pbh(std::bit_cast<__m512>(odd), std::bit_cast<__m512>(even));
    const Halves pair = __builtin_shuffle(std::bit_cast<Halves>(rounded), interleave);
#else
    const auto rounded = [](lanes::Floats value) {
      const auto bits = std::bit_cast<lanes::Words>(value);
      return bits + 0x7FFFu + ((bits >> 16) & 1u);
    };
    const lanes::Words pair = (rounded(even) >> 16) | (rounded(odd) & 0xFFFF0000u);
#endif
    std::memcpy(to + row * ld + column * 2, &pair, sizeof(pair));
  } else {
    lanes::store<T>(to + row * ld + column, even);
    lanes::store<T>(to + (row + 1) * ld + column, odd);
  }
}

// Packs rows as block_gemm's B, [padded_rows, padded], zero-padded. padded_rows is even.
template <typename T>
void pack_rows(const T* from, int64_t stride, int64_t rows, int64_t width, T* to,
               int64_t padded_rows, int64_t padded) {
  if constexpr (!std::is_same_v<T, c10::BFloat16>) {
    copy_rows(from, stride, rows, width, to, padded_rows, padded);
  } else {
    for (int64_t i = 0; i < padded_rows; i += 2) {
      for (int64_t c = 0; c < padded; c += 16) {
        const int64_t count = std::clamp<int64_t>(width - c, 0, 16);
        const auto load = [&](int64_t row) {
          return row < rows && count > 0 ? lanes::load<T>(from + row * stride + c, count)
                                         : lanes::Floats{};
        };
        const auto even = std::bit_cast<lanes::Words>(load(i));
        const auto odd = std::bit_cast<lanes::Words>(load(i + 1));
        const lanes::Words pair = (even >> 16) | odd;
        std::memcpy(to + i * padded + c * 2, &pair, sizeof(pair));
      }
    }
  }
}

// A lane mask, set where the column is in [first, last); the first lane is `column`.
template <typename T>
MEGATRON_INLINE auto inside(int64_t column, int64_t first, int64_t last) {
  using Mask = typename lanes::Traits<lanes::accumulation_t<T>>::Mask;
  using Lane = std::remove_cvref_t<decltype(Mask{}[0])>;
  Mask ramp;
  for (int i = 0; i < lanes::width<T>; ++i) ramp[i] = i;
  ramp += static_cast<Lane>(column);
  return (ramp >= static_cast<Lane>(first)) & (ramp < static_cast<Lane>(last));
}

}  // namespace megatron::kernels
