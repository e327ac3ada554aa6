#include "megatron/training/upcycling.h"

#include <string_view>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/base/parameter.h"
#include "megatron/checkpoint/expert_layout.h"
#include "megatron/ops/random/random_weights.h"

namespace megatron {
namespace {

constexpr std::string_view kExperts = ".mlp.experts.experts.", kMlp = ".mlp.",
                           kNorm = ".pre_mlp_layernorm.",
                           kFusedNorm = ".mlp.linear_fc1.layer_norm_";

std::string renamed(std::string key, std::string_view from, std::string_view to) {
  return key.replace(key.find(from), from.size(), to);
}

// The part of a global tensor that the shard holds.
at::Tensor part_of(at::Tensor global, const ShardedTensor& shard) {
  for (int64_t dim = 0; dim < shard.data.dim(); ++dim)
    global = global.narrow(dim, shard.global_offset[dim], shard.data.size(dim));
  return global;
}

// The stack [experts, ...] of a dense weight: linear_fc1 [2f or f, h], linear_fc2 [h, f].
at::Tensor stack_of(const at::Tensor& dense, bool is_fc1, const TransformerConfig& config) {
  const int64_t experts = *config.moe.num_moe_experts;
  const int64_t slices = config.moe.moe_upcycling_granularity;
  // Each slice gets 1/G of the probability of its copy.
  const double scale = double(slices) / config.moe.moe_router_topk_scaling_factor.value_or(1);
  std::vector<at::Tensor> stack;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t slice = e % slices;
    if (!is_fc1) {
      stack.push_back(dense.chunk(slices, 1)[slice] * scale);
      continue;
    }
    std::vector<at::Tensor> halves;  // gate and up are sliced separately
    for (const at::Tensor& half : dense.chunk(config.gated_linear_unit ? 2 : 1, 0))
      halves.push_back(half.chunk(slices, 0)[slice]);
    stack.push_back(at::cat(halves));
  }
  return at::stack(stack);
}

// The first rows of the initial weights, each once for every slice.
at::Tensor router_weight(const Parameter& parameter, const Options& options) {
  const std::vector<int64_t> shape = parameter.global_shape();
  at::Tensor initial = at::empty(shape, at::kFloat);
  fill_normal(initial, parameter.initialization.value, uint64_t(options.training.seed),
              parameter.name, shape, std::vector<int64_t>(shape.size(), 0));
  const int64_t slices = options.model.transformer.moe.moe_upcycling_granularity;
  return initial.narrow(0, 0, shape[0] / slices).repeat_interleave(slices, 0);
}

}  // namespace

bool is_upcycling(const Options& stored, const Options& options) {
  const MoeConfig& moe = options.model.transformer.moe;
  return moe.has_experts() && moe.moe_use_upcycling && !stored.model.transformer.moe.has_experts();
}

Options dense_options(Options options) {
  options.model.transformer.moe = MoeConfig();
  options.model.transformer.expert_model_parallel_size = 1;
  return options;
}

void load_upcycled(CheckpointReader& checkpoint, const Options& options,
                   const ShardedStateDict& weights) {
  const at::NoGradGuard no_grad;
  const TransformerConfig& config = options.model.transformer;
  ShardedStateDict unchanged;
  for (const ShardedTensor& weight : weights) {
    const std::string& key = weight.key;
    if (key.find(kExperts) != std::string::npos) {
      const std::string dense = renamed(key, kExperts, kMlp);
      const bool is_fc1 = dense.find("linear_fc1") != std::string::npos;
      weight.data.detach().copy_(
          part_of(stack_of(checkpoint.load_tensor(dense), is_fc1, config), weight));
    } else if (key.ends_with(".router.weight")) {
      weight.data.detach().copy_(part_of(router_weight(*weight.parameter, options), weight));
    } else if (weight.parameter != nullptr && weight.parameter->is_buffer) {
      weight.data.detach().zero_();
    } else if (key.find(kNorm) != std::string::npos && !checkpoint.contains(key)) {
      ShardedTensor norm = weight;
      norm.key = renamed(key, kNorm, kFusedNorm);
      unchanged.push_back(std::move(norm));
    } else {
      unchanged.push_back(weight);
    }
  }
  checkpoint.load(unchanged, {.allow_lossy_conversion = true});
}

}  // namespace megatron
