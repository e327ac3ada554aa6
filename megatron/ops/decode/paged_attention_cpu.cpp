// Attention of a few queries over a chunk of paged keys, in three passes: scores, softmax, values.
#include <limits>

#include "megatron/ops/core/native_vector.h"
#include "megatron/ops/decode/paged_attention_kernels.h"

namespace megatron::kernels {

namespace {

using lanes::kNativeWidth;
using lanes::Native;

constexpr float kHidden = -std::numeric_limits<float>::infinity();
// Sums held in registers.
constexpr int kMaxScoreVectors = lanes::kNativeBytes == 64 ? 16 : 8;

// Calls body(position, count, block, slot) for the runs of [first, last) within blocks.
template <typename Body>
MEGATRON_INLINE void for_each_run(int64_t first, int64_t last, int64_t block_size,
                                  const int64_t* blocks, const Body& body) {
  for (int64_t position = first; position < last;) {
    const int64_t slot = position % block_size;
    const int64_t count = block_size - slot < last - position ? block_size - slot : last - position;
    body(position, count, blocks[position / block_size], slot);
    position += count;
  }
}

// Scores of `rows` queries and keys [0, count) of a run. Reads up to 64 keys beyond the run.
template <typename T, int rows>
MEGATRON_INLINE void score_run(int64_t d, int64_t count, const float* queries, const T* keys,
                               int64_t slots, float* scores) {
  constexpr int vectors =
      (64 / kNativeWidth) * rows <= kMaxScoreVectors ? 64 / kNativeWidth : kMaxScoreVectors / rows;
  for (int64_t key = 0; key < count; key += vectors * kNativeWidth) {
    Native sum[rows][vectors] = {};
    for (int64_t i = 0; i < d; ++i) {
      Native feature[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v)
        feature[v] = lanes::native_load(keys + i * slots + key + v * kNativeWidth);
#pragma GCC unroll 4
      for (int row = 0; row < rows; ++row) {
        const Native query = lanes::native_broadcast(queries[row * d + i]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sum[row][v] += feature[v] * query;
      }
    }
#pragma GCC unroll 4
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v)
        lanes::native_store(scores + row * kScoreStride + key + v * kNativeWidth, sum[row][v]);
    }
  }
}

// Turns scores [first, last) into weights, zero for hidden keys.
MEGATRON_INLINE AttentionPartial softmax_row(float* scores, int64_t first, int64_t last,
                                             int64_t first_seen, int64_t end_seen, float soft_cap) {
  const int64_t count = last - first;
  for (int64_t i = 0; i < first_seen - first && i < count; ++i) scores[i] = kHidden;
  for (int64_t i = end_seen > first ? end_seen - first : 0; i < count; ++i) scores[i] = kHidden;
  const int64_t padded = (count + 15) / 16 * 16;
  for (int64_t i = count; i < padded; ++i) scores[i] = kHidden;
  lanes::Floats highest = lanes::Floats{} + kHidden;
  for (int64_t i = 0; i < padded; i += 16) {
    lanes::Floats value = lanes::load(scores + i);
    if (soft_cap > 0) {
      const lanes::Floats capped = soft_cap * lanes::tanh(value / soft_cap);
      value = value == kHidden ? value : capped;
      lanes::store(scores + i, value);
    }
    highest = lanes::maximum(highest, value);
  }
  const float largest = lanes::max_lanes(highest);
  // No key of this chunk is seen.
  if (largest == kHidden) {
    for (int64_t i = 0; i < padded; i += 16) lanes::store(scores + i, lanes::Floats{});
    return {kHidden, 0.0f};
  }
  lanes::Floats total = {};
  for (int64_t i = 0; i < padded; i += 16) {
    const lanes::Floats weight = lanes::exp(lanes::load(scores + i) - largest);
    lanes::store(scores + i, weight);
    total += weight;
  }
  return {largest, lanes::sum_lanes(total)};
}

// sums [rows][width] += weights [rows][count] values [count][width], of `vectors` vectors.
template <typename T, int rows, int vectors>
MEGATRON_INLINE void add_values(int64_t count, const float* weights, const T* values,
                                int64_t value_stride, float* sums, int64_t sums_stride) {
  Native sum[rows][vectors];
#pragma GCC unroll 4
  for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      sum[row][v] = lanes::native_load(sums + row * sums_stride + v * kNativeWidth);
  }
  for (int64_t key = 0; key < count; ++key) {
    Native value[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      value[v] = lanes::native_load(values + key * value_stride + v * kNativeWidth);
#pragma GCC unroll 4
    for (int row = 0; row < rows; ++row) {
      const Native weight = lanes::native_broadcast(weights[row * kScoreStride + key]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[row][v] += value[v] * weight;
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      lanes::native_store(sums + row * sums_stride + v * kNativeWidth, sum[row][v]);
  }
}

template <typename T, int rows>
void attend_rows(const PagedKeyValues<T>& cache, const AttentionChunk& chunk, int64_t row) {
  const int64_t d = cache.d;
  float* scores = chunk.scores;
  for_each_run(chunk.first, chunk.last, cache.block_size, chunk.blocks,
               [&](int64_t position, int64_t count, int64_t block, int64_t slot) {
                 const T* keys =
                     cache.keys + (block * cache.groups + chunk.group) * d * cache.slots + slot;
                 score_run<T, rows>(d, count, chunk.queries + row * d, keys, cache.slots,
                                    scores + position - chunk.first);
               });
  float* sums = chunk.sums + row * chunk.sums_stride;
  for (int i = 0; i < rows; ++i) {
    chunk.partials[(row + i) * chunk.partial_stride] =
        softmax_row(scores + i * kScoreStride, chunk.first, chunk.last, chunk.first_seen[row + i],
                    chunk.end_seen[row + i], chunk.soft_cap);
    for (int64_t j = 0; j < cache.value_stride; j += 16)
      lanes::store(sums + i * chunk.sums_stride + j, lanes::Floats{});
  }
  constexpr int vectors = 4 * rows <= kMaxScoreVectors ? 4 : kMaxScoreVectors / rows;
  for_each_run(chunk.first, chunk.last, cache.block_size, chunk.blocks,
               [&](int64_t position, int64_t count, int64_t block, int64_t slot) {
                 const T* values =
                     cache.values + ((block * cache.groups + chunk.group) * cache.slots + slot) *
                                        cache.value_stride;
                 const float* weights = scores + position - chunk.first;
                 int64_t i = 0;
                 for (; i + vectors * kNativeWidth <= cache.value_stride;
                      i += vectors * kNativeWidth)
                   add_values<T, rows, vectors>(count, weights, values + i, cache.value_stride,
                                                sums + i, chunk.sums_stride);
                 for (; i < cache.value_stride; i += kNativeWidth)
                   add_values<T, rows, 1>(count, weights, values + i, cache.value_stride, sums + i,
                                          chunk.sums_stride);
               });
}

}  // namespace

template <KernelLevel level, typename T>
void attend_chunk(const PagedKeyValues<T>& cache, const AttentionChunk& chunk) {
  int64_t row = 0;
  for (; row + 4 <= chunk.rows; row += 4) attend_rows<T, 4>(cache, chunk, row);
  switch (chunk.rows - row) {
    case 3:
      return attend_rows<T, 3>(cache, chunk, row);
    case 2:
      return attend_rows<T, 2>(cache, chunk, row);
    case 1:
      return attend_rows<T, 1>(cache, chunk, row);
    default:
      return;
  }
}

template <KernelLevel level, typename Out>
void combine_chunks(int64_t chunks, int64_t d, const AttentionPartial* partials,
                    int64_t partial_stride, const float* sums, int64_t sums_stride,
                    const float* sink, Out* out) {
  float largest = sink != nullptr ? *sink : kHidden;
  for (int64_t i = 0; i < chunks; ++i)
    largest = lanes::maximum(largest, partials[i * partial_stride].largest);
  const auto weight_of = [&](float score) {
    return lanes::exp(lanes::Floats{} + (score - largest))[0];
  };
  float total = sink != nullptr ? weight_of(*sink) : 0.0f;
  for (int64_t i = 0; i < chunks; ++i) {
    const AttentionPartial& partial = partials[i * partial_stride];
    if (partial.total > 0) total += partial.total * weight_of(partial.largest);
  }
  lanes::for_each_vector<float>(d, [&](int64_t first, auto count) {
    lanes::Floats sum = {};
    for (int64_t i = 0; i < chunks; ++i) {
      const AttentionPartial& partial = partials[i * partial_stride];
      if (partial.total > 0)
        sum += weight_of(partial.largest) * lanes::load(sums + i * sums_stride + first);
    }
    lanes::store<Out>(out + first, sum / total, count);
  });
}

template <KernelLevel level, typename T>
void store_key_value(const PagedKeyValues<T>& cache, int64_t block, int64_t slot, int64_t group,
                     const float* key, const float* value) {
  const int64_t place = block * cache.groups + group;
  T* keys = cache.keys + place * cache.d * cache.slots + slot;
  for (int64_t i = 0; i < cache.d; ++i) keys[i * cache.slots] = static_cast<T>(key[i]);
  T* values = cache.values + (place * cache.slots + slot) * cache.value_stride;
  lanes::for_each_vector<float>(cache.d, [&](int64_t i, auto count) {
    lanes::store<T>(values + i, lanes::load<float>(value + i, count), count);
  });
}

#define MEGATRON_INSTANTIATE(T)                                                                 \
  template void attend_chunk<kKernelLevel, T>(const PagedKeyValues<T>&, const AttentionChunk&); \
  template void store_key_value<kKernelLevel, T>(const PagedKeyValues<T>&, int64_t, int64_t,    \
                                                 int64_t, const float*, const float*);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(c10::BFloat16)
MEGATRON_INSTANTIATE(c10::Half)
#undef MEGATRON_INSTANTIATE
template void combine_chunks<kKernelLevel, float>(int64_t, int64_t, const AttentionPartial*,
                                                  int64_t, const float*, int64_t, const float*,
                                                  float*);
template void combine_chunks<kKernelLevel, c10::BFloat16>(int64_t, int64_t, const AttentionPartial*,
                                                          int64_t, const float*, int64_t,
                                                          const float*, c10::BFloat16*);

}  // namespace megatron::kernels
