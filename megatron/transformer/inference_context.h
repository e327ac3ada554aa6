// A static cache of what layers keep of their tokens (keys and values, or latents), for decoding
// one batch of sequences token by token.
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

  // Logits of the last position only, which is all that sampling needs.
  bool materialize_only_last_token_logits = true;

  int64_t max_sequence_length() const { return max_sequence_length_; }
  // Tokens cached so far: the position of the next token to be given.
  int64_t sequence_length_offset() const { return offset_; }

  // Appends what a layer keeps of s tokens under a name, [s, ...], behind the offset, and returns
  // all cached so far [offset + s, ...]. The offset moves only by advance(), after all layers.
  at::Tensor append(int64_t layer_number, std::string_view name, const at::Tensor& tokens);
  // The same of keys and values [s, b, g, d].
  std::pair<at::Tensor, at::Tensor> append(int64_t layer_number, const at::Tensor& key,
                                           const at::Tensor& value) {
    return {append(layer_number, "key", key), append(layer_number, "value", value)};
  }
  void advance(int64_t tokens) { offset_ += tokens; }

  // What the cache takes, room for tokens to come included.
  int64_t bytes() const;

 private:
  int64_t max_sequence_length_;
  int64_t offset_ = 0;
  std::map<std::pair<int64_t, std::string>, at::Tensor>
      cache_;  // by layer number and name: [max, ...]
};

}  // namespace megatron
