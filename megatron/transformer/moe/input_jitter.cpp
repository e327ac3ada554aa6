#include "megatron/transformer/moe/input_jitter.h"

#include <ATen/ATen.h>

#include "megatron/ops/random/dropout_mask.h"

namespace megatron {

at::Tensor jittered(const at::Tensor& x, double eps, const DropoutKey& key,
                    const DropoutIndex& index) {
  const int64_t s = x.size(0), b = x.size(1), h = x.size(2);
  const at::Tensor factors = at::empty({s, b, h}, at::kDouble);
  auto* factor = factors.mutable_data_ptr<double>();
  const auto* ordinals = index.sample_ordinals.const_data_ptr<int64_t>();
  const auto* positions = index.positions.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < s; ++i) {
    for (int64_t row = 0; row < b; ++row) {
      const uint64_t stream = dropout_stream(key.seed, key.layer, key.site, ordinals[row]);
      for (int64_t column = 0; column < h; ++column) {
        const uint32_t word = dropout_word(stream, 0, uint32_t(positions[i]), uint32_t(column));
        *factor++ = 1 + eps * (2 * (double(word) + 0.5) / 4294967296.0 - 1);
      }
    }
  }
  return x * factors.to(x.options());
}

}  // namespace megatron
