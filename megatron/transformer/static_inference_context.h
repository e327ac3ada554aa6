// A key-value cache of one size for one batch of sequences of equal length.
#pragma once

#include <map>
#include <string>

#include "megatron/transformer/inference_context.h"

namespace megatron {

class StaticInferenceContext : public InferenceContext {
 public:
  explicit StaticInferenceContext(int64_t max_sequence_length)
      : max_sequence_length_(max_sequence_length) {}

  int64_t max_sequence_length() const { return max_sequence_length_; }
  int64_t sequence_length_offset() const override { return offset_; }

  using InferenceContext::append;
  at::Tensor append(int64_t layer_number, std::string_view name, const at::Tensor& tokens) override;
  // Moves the offset, after all layers have appended their tokens.
  void advance(int64_t tokens) { offset_ += tokens; }

  // Allocated size: max_sequence_length tokens per entry.
  int64_t bytes() const;

 private:
  int64_t max_sequence_length_;
  int64_t offset_ = 0;
  // Tensors [max_sequence_length, ...] by layer number and name.
  std::map<std::pair<int64_t, std::string>, at::Tensor> cache_;
};

}  // namespace megatron
