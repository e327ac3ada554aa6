// What layers know of generation: the tokens that are cached, and where their keys and values go.
#pragma once

#include <string_view>
#include <utility>

#include <ATen/core/Tensor.h>

namespace megatron {

// The key-value cache of the rows of one pass. With multi-latent attention it may hold latents
// instead of keys and values.
class InferenceContext {
 public:
  InferenceContext() = default;
  InferenceContext(const InferenceContext&) = delete;
  InferenceContext& operator=(const InferenceContext&) = delete;
  virtual ~InferenceContext() = default;

  // Compute logits of the last position only, which is all that sampling needs.
  bool materialize_only_last_token_logits = true;

  // Number of cached tokens, which is the position of the next token.
  virtual int64_t sequence_length_offset() const = 0;

  // The sequence length by which longrope and dynamic scaling choose frequencies in a pass of
  // `tokens` new tokens.
  virtual int64_t rotary_sequence_length(int64_t tokens) const {
    return sequence_length_offset() + tokens;
  }

  // Writes a layer's `tokens` [s, b, ...] to the cache entry `name` at the offset and returns all
  // cached tokens [offset + s, b, ...]. The offset does not move before all layers have written.
  // Throws Error where the cache is full.
  virtual at::Tensor append(int64_t layer_number, std::string_view name,
                            const at::Tensor& tokens) = 0;
  // Appends keys and values [s, b, g, d].
  std::pair<at::Tensor, at::Tensor> append(int64_t layer_number, const at::Tensor& key,
                                           const at::Tensor& value) {
    return {append(layer_number, "key", key), append(layer_number, "value", value)};
  }
};

}  // namespace megatron
