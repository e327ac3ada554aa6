#include "megatron/base/parameter.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"

namespace megatron {

Parameter::Parameter(std::vector<int64_t> local_shape, at::TensorOptions options,
                     TensorParallelSharding sharding_, Initialization initialization_)
    : data(at::empty(local_shape, options).set_requires_grad(true)),
      sharding(sharding_),
      initialization(initialization_) {}

std::vector<int64_t> Parameter::global_shape() const {
  std::vector<int64_t> shape = data.sizes().vec();
  if (sharding.partition_dim >= 0) shape[sharding.partition_dim] *= sharding.size;
  return shape;
}

std::vector<ShardFragment> Parameter::fragments() const {
  if (sharding.partition_dim < 0) {
    return {{0, data.dim() == 0 ? 1 : data.size(0), 0}};
  }
  const int64_t local = data.size(sharding.partition_dim);
  const int64_t length = local / sharding.partition_stride;
  std::vector<ShardFragment> fragments;
  for (int64_t block = 0; block < sharding.partition_stride; ++block) {
    fragments.push_back({block * length, length, (block * sharding.size + sharding.rank) * length});
  }
  return fragments;
}

at::Tensor Parameter::fragment_view(const at::Tensor& local, const ShardFragment& fragment) const {
  if (sharding.partition_dim < 0) return local;
  return local.narrow(sharding.partition_dim, fragment.local_start, fragment.length);
}

std::vector<int64_t> Parameter::fragment_offset(const ShardFragment& fragment) const {
  std::vector<int64_t> offset(data.dim(), 0);
  if (sharding.partition_dim >= 0) offset[sharding.partition_dim] = fragment.global_start;
  return offset;
}

at::Tensor Parameter::local_part(const at::Tensor& global) const {
  check(global.sizes().vec() == global_shape(), "Expected {} of shape {}, but got {}", name,
        global_shape(), global.sizes().vec());
  if (sharding.partition_dim < 0) return global;
  std::vector<at::Tensor> parts;
  for (const auto& fragment : fragments()) {
    parts.push_back(global.narrow(sharding.partition_dim, fragment.global_start, fragment.length));
  }
  return at::cat(parts, sharding.partition_dim);
}

}  // namespace megatron
