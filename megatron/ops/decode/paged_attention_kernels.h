// The kernels of paged attention: plain pointers. T, the type of cached keys and values, is float,
// BFloat16 or Half.
#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

// Keys that one pass of the kernel sees: the softmax of a row is split at multiples of this number,
// whatever rows and threads there are.
inline constexpr int64_t kKeyChunk = 128;

// One layer's blocks. Keys are stored by feature, [block][g][d][slots], so that 16 scores are
// computed at once; values by position, [block][g][slots][value_stride].
template <typename T>
struct PagedKeyValues {
  T* keys = nullptr;
  T* values = nullptr;
  int64_t groups = 0, d = 0;
  int64_t block_size = 0;    // positions of a block
  int64_t slots = 0;         // of a block, with padding
  int64_t value_stride = 0;  // d, with padding
};

// A row of queries over a chunk of keys: the largest score, the sum of exp(score - largest), and the
// sum of the values with these weights.
struct AttentionPartial {
  float largest, total;
};

// `rows` queries [rows, d] of one group, already scaled, over the keys [first, last), which lie in
// one chunk. Row i sees keys [first_seen[i], end_seen[i]). Writes partials [rows], partial_stride
// apart, and sums [rows, d], sums_stride apart (at least d rounded up to 16). soft_cap 0: none.
struct AttentionChunk {
  const float* queries = nullptr;
  int64_t rows = 0, group = 0;
  const int64_t* blocks = nullptr;
  int64_t first = 0, last = 0;
  const int64_t* first_seen = nullptr;
  const int64_t* end_seen = nullptr;
  float soft_cap = 0;
  AttentionPartial* partials = nullptr;
  int64_t partial_stride = 1;
  float* sums = nullptr;
  int64_t sums_stride = 0;
  float* scores = nullptr;  // scratch: kScoreRows * kScoreStride
};
// The kernel takes up to 4 rows at once, and computes up to 64 scores more than there are.
inline constexpr int64_t kScoreRows = 4, kScoreStride = kKeyChunk + 64;

template <KernelLevel level, typename T>
void attend_chunk(const PagedKeyValues<T>& cache, const AttentionChunk& chunk);

// out [d] of a row from its partials over `chunks` chunks, sums_stride and partial_stride apart.
// `sink` points to the logit of an attention sink, or is null. Out is float or BFloat16.
template <KernelLevel level, typename Out>
void combine_chunks(int64_t chunks, int64_t d, const AttentionPartial* partials,
                    int64_t partial_stride, const float* sums, int64_t sums_stride,
                    const float* sink, Out* out);

// Stores a key and a value [d] of one position.
template <KernelLevel level, typename T>
void store_key_value(const PagedKeyValues<T>& cache, int64_t block, int64_t slot, int64_t group,
                     const float* key, const float* value);

}  // namespace megatron::kernels
