#include "megatron/transformer/inference_context.h"

#include "megatron/base/error.h"

namespace megatron {

std::pair<at::Tensor, at::Tensor> InferenceContext::append(int64_t layer_number,
                                                           const at::Tensor& key,
                                                           const at::Tensor& value) {
  const int64_t end = offset_ + key.size(0);
  check(end <= max_sequence_length_,
        "Expected at most {} tokens in the key-value cache, but got {}", max_sequence_length_, end);
  auto [entry, is_new] = cache_.try_emplace(layer_number);
  auto& [keys, values] = entry->second;
  if (is_new) {
    keys = at::empty({max_sequence_length_, key.size(1), key.size(2), key.size(3)}, key.options());
    values = at::empty({max_sequence_length_, value.size(1), value.size(2), value.size(3)},
                       value.options());
  }
  keys.narrow(0, offset_, key.size(0)).copy_(key);
  values.narrow(0, offset_, value.size(0)).copy_(value);
  return {keys.narrow(0, 0, end), values.narrow(0, 0, end)};
}

}  // namespace megatron
