// Attention of a step's new tokens over paged keys and values: decode and chunks of prompts side by
// side. Causal; grouped queries, sliding windows, soft caps and attention sinks.
//
// A row of queries is summed over the same pieces of keys whatever runs beside it and on however
// many threads, so its result is the same bit for bit.
#pragma once

#include <span>
#include <vector>

#include "megatron/ops/core/thread_team.h"
#include "megatron/ops/decode/paged_cache.h"

namespace megatron {

// New tokens of one sequence.
struct PagedQueries {
  int64_t first_token = 0;  // among all tokens of the step
  int64_t tokens = 0;
  int64_t position = 0;             // of the first token; the cache holds it and all before
  const int64_t* blocks = nullptr;  // of the sequence; block i holds positions from i * block size
};

// The work of a step, for all layers with the same window; its memory is reused by later steps.
class PagedAttention {
 public:
  // n heads of queries over the g groups of `cache`. window: keys [i - window, i] are seen; -1: all.
  PagedAttention(const PagedCache& cache, int64_t heads, int64_t window);

  // The sequences of a step with `tokens` new tokens in total. The blocks must outlive run().
  void plan(std::span<const PagedQueries> sequences, int64_t tokens);

  struct Call {
    int64_t layer = 0;
    // [g, tokens, n / g, d], already multiplied by the softmax scale.
    const float* queries = nullptr;
    float soft_cap = 0;            // 0: none
    const float* sinks = nullptr;  // [n] logits, or null
    // [tokens, n * d], fp32 or bf16.
    void* out = nullptr;
    c10::ScalarType out_dtype = c10::ScalarType::Float;
  };
  // This thread's part. Contains one barrier; the caller needs others before and after.
  void run(ThreadTeam& team, const Call& call);

 private:
  // Tokens of one sequence whose queries of a group are computed together.
  struct Tile {
    int64_t sequence, first_token, tokens, position;
    int64_t first_chunk, chunks;  // that the tile's queries see
    int64_t partials;             // first row of partials_; -1: kept by the thread
  };
  // One piece of work, for one group: one chunk of a tile, or all (chunk -1).
  struct Item {
    int64_t tile, group, chunk;
  };
  struct Scratch {
    std::vector<float> scores, sums;
    std::vector<kernels::AttentionPartial> partials;
    std::vector<int64_t> first_seen, end_seen;
  };

  template <KernelLevel level, typename T>
  void run_item(const Call& call, const Item& item, Scratch& scratch);
  // Writes the rows of a tile's group from its partials, [chunk, row].
  template <KernelLevel level>
  void combine(const Call& call, const Tile& tile, int64_t group,
               const kernels::AttentionPartial* partials, const float* sums) const;
  int64_t rows_of(const Tile& tile) const { return tile.tokens * queries_per_group_; }

  const PagedCache& cache_;
  int64_t heads_, queries_per_group_, window_, sums_stride_;
  int64_t tokens_ = 0;
  std::vector<PagedQueries> sequences_;
  std::vector<Tile> tiles_;
  std::vector<Item> items_;
  std::vector<kernels::AttentionPartial> partials_;  // of split tiles: [tile, group, chunk, row]
  std::vector<float> sums_;                          // the same rows
  std::vector<Scratch> scratch_;                     // per thread
};

}  // namespace megatron
