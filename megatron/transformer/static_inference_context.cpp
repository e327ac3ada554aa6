#include "megatron/transformer/static_inference_context.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {

at::Tensor StaticInferenceContext::append(int64_t layer_number, std::string_view name,
                                          const at::Tensor& tokens) {
  const int64_t end = offset_ + tokens.size(0);
  check(end <= max_sequence_length_,
        "Expected at most {} tokens in the key-value cache, but got {}", max_sequence_length_, end);
  at::Tensor& cached = cache_[{layer_number, std::string(name)}];
  if (!cached.defined()) {
    std::vector<int64_t> shape = tokens.sizes().vec();
    shape[0] = max_sequence_length_;
    cached = at::empty(shape, tokens.options());
  }
  cached.narrow(0, offset_, tokens.size(0)).copy_(tokens);
  return cached.narrow(0, 0, end);
}

int64_t StaticInferenceContext::bytes() const {
  int64_t sum = 0;
  for (const auto& [key, cached] : cache_) sum += static_cast<int64_t>(cached.nbytes());
  return sum;
}

}  // namespace megatron
