// A static cache of keys and values, for decoding one batch of sequences token by token.
#pragma once

#include <map>
#include <utility>

#include <ATen/ATen.h>

namespace megatron {

class InferenceContext {
 public:
  explicit InferenceContext(int64_t max_sequence_length)
      : max_sequence_length_(max_sequence_length) {}

  // Logits of the last position only, which is all that sampling needs.
  bool materialize_only_last_token_logits = true;

  int64_t max_sequence_length() const { return max_sequence_length_; }
  // Tokens cached so far: the position of the next token to be given.
  int64_t sequence_length_offset() const { return offset_; }

  // Appends keys and values [s, b, g, d] of a layer behind the offset, and returns all cached so
  // far [offset + s, b, g, d]. The offset moves only by advance(), after all layers.
  std::pair<at::Tensor, at::Tensor> append(int64_t layer_number, const at::Tensor& key,
                                           const at::Tensor& value);
  void advance(int64_t tokens) { offset_ += tokens; }

 private:
  int64_t max_sequence_length_;
  int64_t offset_ = 0;
  std::map<int64_t, std::pair<at::Tensor, at::Tensor>> cache_;  // by layer number: [max, b, g, d]
};

}  // namespace megatron
