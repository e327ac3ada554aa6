// Keys and values of a model's layers in blocks, and the InferenceContexts of rows over them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "megatron/inference/step_batch.h"
#include "megatron/transformer/inference_context.h"

namespace megatron {

// What a layer caches of one token, by layer number and name: sizes without tokens and rows, and
// the dtype and device.
struct CacheEntry {
  std::vector<int64_t> sizes;
  at::TensorOptions options;
};
using CacheEntries = std::map<std::pair<int64_t, std::string>, CacheEntry>;

// Bytes of all entries for one token.
int64_t bytes_per_token(const CacheEntries& entries);

class PagedEntries {
 public:
  PagedEntries() = default;
  // Memory is used as blocks are written.
  PagedEntries(const CacheEntries& entries, int64_t num_blocks, int64_t block_size);

  // A block's tokens are rows [block x block_size, (block + 1) x block_size). [tokens, ...]
  at::Tensor entry(int64_t layer_number, std::string_view name) const;
  void copy_block(int64_t from, int64_t to);

 private:
  int64_t block_size_ = 0;
  std::map<std::pair<int64_t, std::string>, at::Tensor> entries_;
};

// The cache of one row of a step, b = 1. Layers get a contiguous copy of all tokens of the row, so
// that every attention of the module path can read it. Results do not depend on which blocks the row
// has.
class DynamicInferenceContext : public InferenceContext {
 public:
  // The cache and the row's spans must outlive it.
  DynamicInferenceContext(PagedEntries& cache, const StepRow& row, int64_t block_size,
                          at::Device device);

  int64_t sequence_length_offset() const override { return row_.position; }
  int64_t rotary_sequence_length(int64_t tokens) const override;

  using InferenceContext::append;
  at::Tensor append(int64_t layer_number, std::string_view name, const at::Tensor& tokens) override;

 private:
  PagedEntries& cache_;
  StepRow row_;
  at::Tensor slots_;  // [position + tokens] int64: where each token of the row lies
};

// Finds out what layers cache: it records what a pass appends, and keeps nothing.
class RecordingInferenceContext : public InferenceContext {
 public:
  int64_t sequence_length_offset() const override { return 0; }

  using InferenceContext::append;
  at::Tensor append(int64_t layer_number, std::string_view name, const at::Tensor& tokens) override;

  const CacheEntries& entries() const { return entries_; }

 private:
  CacheEntries entries_;
};

}  // namespace megatron
