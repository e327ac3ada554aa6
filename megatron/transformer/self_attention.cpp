#include "megatron/transformer/self_attention.h"

#include "megatron/ops/rope.h"
#include "megatron/parallel/collectives.h"

namespace megatron {

SelfAttention::SelfAttention(const TransformerConfig& config,
                             const SelfAttentionSubmodules& submodules, int64_t layer_number,
                             const LayerOptions& options)
    : config_(config), options_(options), layer_number_(layer_number) {
  const int64_t d = config.head_dim(), n = config.num_attention_heads, g = config.query_groups();
  divide(n, options.tp->size(), "num_attention_heads");
  divide(n, g, "num_attention_heads over num_query_groups");
  core_attention_ =
      register_module("core_attention", submodules.core_attention(config, layer_number, options));
  linear_proj_ = register_module(
      "linear_proj", std::make_shared<RowParallelLinear>(
                         RowParallelLinearArguments{.input_size = n * d,
                                                    .output_size = config.hidden_size,
                                                    .bias = config.add_bias_linear,
                                                    .init_std = config.output_layer_std()},
                         options));
  linear_qkv_ = register_module(
      "linear_qkv",
      std::make_shared<ColumnParallelLinear>(
          ColumnParallelLinearArguments{.input_size = config.hidden_size,
                                        .output_size = (n + 2 * g) * d,
                                        .bias = config.add_bias_linear || config.add_qkv_bias,
                                        .init_std = config.init_method_std},
          options));
}

// The rows of linear_qkv are laid out group by group: the group's queries, its key, its value. With
// more ranks than groups the split cuts through groups: the projections are gathered, and each rank
// takes its queries and the one key and value that they share.
SelfAttention::QueryKeyValue SelfAttention::query_key_value(const at::Tensor& hidden_states) const {
  const int64_t d = config_.head_dim(), n = config_.num_attention_heads, g = config_.query_groups();
  const int64_t queries_per_group = n / g, tp = options_.tp->size();
  at::Tensor mixed = linear_qkv_->forward(hidden_states);
  const bool groups_are_shared = g < tp;
  if (groups_are_shared)
    mixed = all_gather_last_dim_from_tensor_parallel_region(mixed, *options_.tp);
  const int64_t groups = groups_are_shared ? g : g / tp;
  const int64_t s = mixed.size(0), b = mixed.size(1);
  at::Tensor grouped = mixed.view({s, b, groups, queries_per_group + 2, d});
  if (groups_are_shared) grouped = grouped.narrow(2, options_.tp->rank() * g / tp, 1);
  at::Tensor query = grouped.narrow(3, 0, queries_per_group);
  if (groups_are_shared) {
    const int64_t queries_p = n / tp;
    query = query.narrow(3, options_.tp->rank() * queries_p % queries_per_group, queries_p);
  }
  return {query.reshape({s, b, -1, d}), grouped.select(3, queries_per_group),
          grouped.select(3, queries_per_group + 1)};
}

OutputAndBias SelfAttention::forward(const at::Tensor& hidden_states,
                                     const at::Tensor& attention_mask, const RotaryTable& rotary,
                                     const ForwardContext& context,
                                     InferenceContext* inference) const {
  auto [query, key, value] = query_key_value(hidden_states);
  if (rotary.defined()) {
    query = apply_rotary(query, rotary.cos, rotary.sin, config_.rotary_interleaved);
    key = apply_rotary(key, rotary.cos, rotary.sin, config_.rotary_interleaved);
  }
  if (inference != nullptr) std::tie(key, value) = inference->append(layer_number_, key, value);
  const at::Tensor attended = core_attention_->forward(query, key, value, attention_mask, context);
  return {linear_proj_->forward(attended), linear_proj_->bias()};
}

}  // namespace megatron
