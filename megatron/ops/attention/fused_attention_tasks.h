// Shared by the forward and backward kernels of fused attention: block sizes and tasks. Only kernel
// files (*_cpu.cpp) include it.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <vector>

#include "megatron/base/integer_math.h"
#include "megatron/ops/attention/fused_attention_kernels.h"
#include "megatron/ops/attention/fused_attention_packing.h"
#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/matmul/block_gemm.h"
#include "megatron/ops/random/dropout_lanes.h"

namespace megatron::kernels {
inline namespace MEGATRON_KERNEL_LEVEL {

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

// The factor of scores in base-2 exponentials. With a soft cap it applies to what cap_scores
// leaves.
template <typename A>
A exponent_scale(const FusedAttentionShape& shape) {
  return static_cast<A>((shape.soft_cap > 0 ? shape.soft_cap : shape.scale) * kLog2E);
}

// With a soft cap: replaces products of queries and keys by tanh(scale * product / cap), which is
// the share of the cap. `columns` is a multiple of a vector's width.
template <typename T, typename A>
void cap_scores(const FusedAttentionShape& shape, A* scores, int64_t columns) {
  if (shape.soft_cap == 0) return;
  const A factor = static_cast<A>(shape.scale / shape.soft_cap);
  for (int64_t i = 0; i < columns; i += lanes::width<T>) {
    lanes::store<A>(scores + i, lanes::tanh(lanes::load<A>(scores + i) * factor));
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

}  // namespace MEGATRON_KERNEL_LEVEL
}  // namespace megatron::kernels
