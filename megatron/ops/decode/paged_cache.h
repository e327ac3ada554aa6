// Keys and values of all layers in blocks of positions. Which block holds what is the caller's
// matter (block tables). On the CPU only.
#pragma once

#include <vector>

#include <c10/core/ScalarType.h>

#include "megatron/ops/decode/page_buffer.h"
#include "megatron/ops/decode/paged_attention_kernels.h"

namespace megatron {

struct PagedCacheShape {
  int64_t layers = 0, groups = 0, head_dim = 0;  // g, d
  int64_t block_size = 0;                        // positions of a block
  int64_t num_blocks = 0;
  c10::ScalarType dtype = c10::ScalarType::Float;  // fp32, bf16 or fp16

  // Memory of one block over all layers.
  int64_t block_bytes() const;
};

class PagedCache {
 public:
  // Throws Error for sizes below 1, for another dtype, and if the memory is refused.
  explicit PagedCache(const PagedCacheShape& shape);

  const PagedCacheShape& shape() const { return shape_; }

  // One layer's blocks, with T the type of shape().dtype.
  template <typename T>
  kernels::PagedKeyValues<T> layer(int64_t layer) const {
    const auto& [keys, values] = layers_[layer];
    return {.keys = static_cast<T*>(keys.data()),
            .values = static_cast<T*>(values.data()),
            .groups = shape_.groups,
            .d = shape_.head_dim,
            .block_size = shape_.block_size,
            .slots = slots_,
            .value_stride = value_stride_};
  }

  // Stores a key and a value [d] of a position: slot `slot` of block `block`.
  void store(int64_t layer, int64_t block, int64_t slot, int64_t group, const float* key,
             const float* value) const;

  // In all layers.
  void copy_block(int64_t from, int64_t to);

 private:
  struct Layer {
    PageBuffer keys, values;
  };
  PagedCacheShape shape_;
  int64_t slots_ = 0, value_stride_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace megatron
