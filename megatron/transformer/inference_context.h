// Static key-value cache for decoding one batch of sequences. With multi-latent attention it may
// hold latents instead of keys and values.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <ATen/ATen.h>

namespace megatron {

class InferenceContext {
 public:
  explicit InferenceContext(int64_t max_sequence_length)
      : max_sequence_length_(max_sequence_length) {}

  // Compute logits of the last position only, which is all that sampling needs.
  bool materialize_only_last_token_logits = true;

  int64_t max_sequence_length() const { return max_sequence_length_; }
  // Number of cached tokens, which is the position of the next token.
  int64_t sequence_length_offset() const { return offset_; }

  // Writes a layer's `tokens` [s, ...] to the cache entry `name` at the offset and returns all
  // cached tokens [offset + s, ...]. The offset moves only with advance(), after all layers.
  // Throws Error where the cache is full.
  at::Tensor append(int64_t layer_number, std::string_view name, const at::Tensor& tokens);
  // Appends keys and values [s, b, g, d].
  std::pair<at::Tensor, at::Tensor> append(int64_t layer_number, const at::Tensor& key,
                                           const at::Tensor& value) {
    return {append(layer_number, "key", key), append(layer_number, "value", value)};
  }
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
