#include "megatron/base/parameter.h"

#include <string_view>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>
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
  if (expert) shape[0] *= expert_sharding.size;
  return shape;
}

Parameter Parameter::expert_part(int64_t i) const {
  check(expert && i >= 0 && i < data.size(0), "Expected one of the {} experts of {}, but got {}",
        expert ? data.size(0) : 0, name, i);
  Parameter part = *this;
  part.data = data.detach()[i];
  if (main_grad.defined()) part.main_grad = main_grad[i];
  part.expert = false;
  part.expert_sharding = {};
  if (sharding.partition_dim >= 0) --part.sharding.partition_dim;
  constexpr std::string_view kExperts = ".experts.";
  if (const size_t at = name.find(kExperts); at != std::string::npos) {
    part.name.insert(at + kExperts.size(),
                     fmt::format("local_experts.{}.", expert_sharding.rank * data.size(0) + i));
  }
  return part;
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
  if (expert) offset[0] += expert_sharding.rank * data.size(0);
  return offset;
}

at::Tensor Parameter::local_part(const at::Tensor& global) const {
  check(global.sizes().vec() == global_shape(), "Expected {} of shape {}, but got {}", name,
        global_shape(), global.sizes().vec());
  const at::Tensor experts =
      expert ? global.narrow(0, expert_sharding.rank * data.size(0), data.size(0)) : global;
  if (sharding.partition_dim < 0) return experts;
  std::vector<at::Tensor> parts;
  for (const auto& fragment : fragments()) {
    parts.push_back(experts.narrow(sharding.partition_dim, fragment.global_start, fragment.length));
  }
  return at::cat(parts, sharding.partition_dim);
}

}  // namespace megatron
