#include "megatron/ops/decode/paged_cache.h"

#include <cstring>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"

namespace megatron {
namespace {

constexpr int64_t kVector = 16;  // elements to which rows are padded
// The kernels read up to this many elements beyond the last.
constexpr int64_t kReadAhead = 64;

int64_t block_keys(const PagedCacheShape& shape) {
  return shape.groups * shape.head_dim * round_up(shape.block_size, kVector);
}
int64_t block_values(const PagedCacheShape& shape) {
  return shape.groups * round_up(shape.block_size, kVector) * round_up(shape.head_dim, kVector);
}

}  // namespace

int64_t PagedCacheShape::block_bytes() const {
  return layers * (block_keys(*this) + block_values(*this)) * c10::elementSize(dtype);
}

PagedCache::PagedCache(const PagedCacheShape& shape)
    : shape_(shape),
      slots_(round_up(shape.block_size, kVector)),
      value_stride_(round_up(shape.head_dim, kVector)) {
  check(shape.layers > 0 && shape.groups > 0 && shape.head_dim > 0 && shape.block_size > 0 &&
            shape.num_blocks > 0,
        "Expected a cache of at least one layer, group, feature, position and block, but got {}, "
        "{}, {}, {} and {}",
        shape.layers, shape.groups, shape.head_dim, shape.block_size, shape.num_blocks);
  check(shape.dtype == c10::ScalarType::Float || shape.dtype == c10::ScalarType::BFloat16 ||
            shape.dtype == c10::ScalarType::Half,
        "Expected a paged cache of fp32, bf16 or fp16, but got {}", dtype_name(shape.dtype));
  const auto element = static_cast<int64_t>(c10::elementSize(shape.dtype));
  for (int64_t i = 0; i < shape.layers; ++i) {
    layers_.push_back(
        {PageBuffer((shape.num_blocks * block_keys(shape) + kReadAhead) * element),
         PageBuffer((shape.num_blocks * block_values(shape) + kReadAhead) * element)});
  }
}

void PagedCache::store(int64_t layer_index, int64_t block, int64_t slot, int64_t group,
                       const float* key, const float* value) const {
  const auto store_as = [&]<typename T>(T) {
    with_kernel_level([&](auto level) {
      kernels::store_key_value<decltype(level)::value>(layer<T>(layer_index), block, slot, group,
                                                       key, value);
    });
  };
  switch (shape_.dtype) {
    case c10::ScalarType::BFloat16:
      return store_as(c10::BFloat16());
    case c10::ScalarType::Half:
      return store_as(c10::Half());
    default:
      return store_as(float());
  }
}

void PagedCache::copy_block(int64_t from, int64_t to) {
  check(from >= 0 && from < shape_.num_blocks && to >= 0 && to < shape_.num_blocks,
        "Expected blocks below {}, but got {} and {}", shape_.num_blocks, from, to);
  if (from == to) return;
  const auto element = static_cast<int64_t>(c10::elementSize(shape_.dtype));
  const auto copy = [&](const PageBuffer& buffer, int64_t bytes) {
    auto* data = static_cast<char*>(buffer.data());
    std::memcpy(data + to * bytes, data + from * bytes, bytes);
  };
  for (const Layer& layer : layers_) {
    copy(layer.keys, block_keys(shape_) * element);
    copy(layer.values, block_values(shape_) * element);
  }
}

}  // namespace megatron
