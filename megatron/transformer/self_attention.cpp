#include "megatron/transformer/self_attention.h"

#include <ATen/ops/sigmoid.h>

#include "megatron/base/dtype.h"
#include "megatron/base/integer_math.h"
#include "megatron/ops/attention/rope.h"
#include "megatron/parallel/collectives.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {

SelfAttention::SelfAttention(const BuildArguments& arguments)
    : config_(arguments.config),
      options_(arguments.options),
      layer_number_(arguments.layer_number),
      has_rope_(config_.has_rope(layer_number_)),
      has_window_(config_.has_window(layer_number_)),
      takes_arbitrary_masks_(has_arbitrary_masks(arguments.spec)) {
  const int64_t d = config_.head_dim(), n = config_.num_attention_heads, g = config_.query_groups();
  divide(n, options_.tp->size(), "num_attention_heads");
  divide(n, g, "num_attention_heads over num_query_groups");
  core_attention_ = register_module("core_attention",
                                    core_attention_modules().build(arguments.at("core_attention"),
                                                                   /*softmax_scale=*/std::nullopt));
  linear_proj_ = register_module("linear_proj",
                                 row_linear_modules().build(arguments.at("linear_proj"),
                                                            {.input_size = n * d,
                                                             .output_size = config_.hidden_size,
                                                             .bias = config_.has_proj_bias(),
                                                             .init_std = config_.output_layer_std(),
                                                             .tp_comm_buffer_name = "proj"}));
  const int64_t gates = config_.attention_output_gate ? n : 0;
  linear_qkv_ = register_module(
      "linear_qkv", column_linear_modules().build(arguments.at("linear_qkv"),
                                                  {.input_size = config_.hidden_size,
                                                   .output_size = (n + gates + 2 * g) * d,
                                                   .bias = config_.has_qkv_bias(),
                                                   .init_std = config_.hidden_std(),
                                                   .tp_comm_buffer_name = "qkv"}));
  // Each rank normalizes its own heads, so the gradients of the weights are summed over TP. Norms
  // of the scope `head` have the features of one head, others those of all heads.
  LayerOptions per_head = options_;
  per_head.sequence_parallel = options_.tp->size() > 1;
  const bool all_heads = config_.qk_layernorm_scope != QkNormScope::head;
  q_layernorm_ = build_norm(arguments.at("q_layernorm").with(per_head), all_heads ? n * d : d);
  k_layernorm_ = build_norm(arguments.at("k_layernorm").with(per_head), all_heads ? g * d : d);
  if (q_layernorm_) register_module("q_layernorm", q_layernorm_);
  if (k_layernorm_) register_module("k_layernorm", k_layernorm_);
}

// The output features of linear_qkv are ordered by query group: queries, gates, key, value of each
// group. With more TP ranks than groups, groups are split over ranks: the projections are gathered,
// and each rank selects its queries and the key and value of their group.
SelfAttention::Projections SelfAttention::split(at::Tensor mixed) const {
  const int64_t d = config_.head_dim(), n = config_.num_attention_heads, g = config_.query_groups();
  const int64_t queries_per_group = n / g, tp = options_.tp->size();
  const int64_t gates_per_group = config_.attention_output_gate ? queries_per_group : 0;
  const bool groups_are_shared = g < tp;
  if (groups_are_shared)
    mixed = all_gather_last_dim_from_tensor_parallel_region(mixed, *options_.tp);
  const int64_t groups = groups_are_shared ? g : g / tp;
  const int64_t s = mixed.size(0), b = mixed.size(1);
  at::Tensor grouped = mixed.view({s, b, groups, queries_per_group + gates_per_group + 2, d});
  if (groups_are_shared) grouped = grouped.narrow(2, options_.tp->rank() * g / tp, 1);
  // A single split, so that backward writes one gradient instead of summing padded ones.
  const auto pieces = grouped.split_with_sizes({queries_per_group, gates_per_group, 1, 1}, 3);
  const auto heads_of_this_rank = [&](at::Tensor heads) {
    if (groups_are_shared) {
      const int64_t queries_p = n / tp;
      heads = heads.narrow(3, options_.tp->rank() * queries_p % queries_per_group, queries_p);
    }
    return heads.reshape({s, b, -1, d});
  };
  return {.query = heads_of_this_rank(pieces[0]),
          .gate = gates_per_group > 0 ? heads_of_this_rank(pieces[1]) : at::Tensor(),
          .key = pieces[2].squeeze(3),
          .value = pieces[3].squeeze(3)};
}

OutputAndBias SelfAttention::forward(const at::Tensor& hidden_states, const LayerInput& input,
                                     const ForwardContext& context) const {
  const ColumnLinear::Output mixed =
      config_.apply_residual_connection_post_layernorm
          ? linear_qkv_->forward_with_normed(hidden_states)
          : ColumnLinear::Output{linear_qkv_->forward(hidden_states), {}};
  auto [query, gate, key, value] = split(mixed.output);
  if (q_layernorm_) query = q_layernorm_->forward(query);
  if (k_layernorm_) key = k_layernorm_->forward(key);
  const RotaryTable& rotary =
      has_window_ && input.rotary_local.defined() ? input.rotary_local : input.rotary;
  if (rotary.defined() && has_rope_) {
    query = apply_rotary(query, rotary.cos, rotary.sin, config_.rotary_interleaved);
    key = apply_rotary(key, rotary.cos, rotary.sin, config_.rotary_interleaved);
  }
  if (input.inference != nullptr)
    std::tie(key, value) = input.inference->append(layer_number_, key, value);
  at::Tensor attended = core_attention_->forward_recomputed(config_.recompute.selects("core_attn"),
                                                            query, key, value, input, context);
  if (gate.defined()) {
    const at::ScalarType wide = accumulation_dtype(gate.scalar_type());
    attended =
        (attended * at::sigmoid(gate.to(wide)).view(attended.sizes())).to(attended.scalar_type());
  }
  return {linear_proj_->forward(attended), linear_proj_->bias(), mixed.normed};
}

}  // namespace megatron
