#include "megatron/transformer/core_attention.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/ops/attention/fused_attention.h"
#include "megatron/ops/recompute.h"

namespace megatron {
namespace {

// 1 / sqrt(d); with MuP sqrt(base head width) / d^power.
double softmax_scale_of(const TransformerConfig& config) {
  if (config.softmax_scale) return *config.softmax_scale;
  const auto d = static_cast<double>(config.head_dim());
  if (!config.mup.use_mup) return 1.0 / std::sqrt(d);
  return std::sqrt(config.mup.mup_base_head_dim.value_or(1.0)) /
         std::pow(d, config.mup.mup_attn_scale_power);
}

}  // namespace

at::Tensor CoreAttention::forward_recomputed(bool recompute, const at::Tensor& q,
                                             const at::Tensor& k, const at::Tensor& v,
                                             const LayerInput& input,
                                             const ForwardContext& context) const {
  const auto attend = [this, input, context](const at::Tensor& query, const at::Tensor& key,
                                             const at::Tensor& value, const at::Tensor& bias) {
    LayerInput recomputed = input;
    recomputed.attention_bias = bias;
    return forward(query, key, value, recomputed, context);
  };
  return recompute_if(recompute && input.inference == nullptr, attend, q, k, v,
                      input.attention_bias);
}

DotProductAttention::DotProductAttention(const TransformerConfig& config, int64_t layer_number,
                                         const LayerOptions& options,
                                         std::optional<double> softmax_scale)
    : layer_number_(layer_number),
      backend_(config.attention_backend),
      demands_(AttentionDemands::of_layer(config, layer_number)),
      softmax_scale_(softmax_scale.value_or(softmax_scale_of(config))),
      soft_cap_(config.attn_logit_softcapping.value_or(0.0)),
      layer_scaling_(config.apply_query_key_layer_scaling ? double(layer_number) : 1.0),
      attention_dropout_(config.attention_dropout),
      softmax_type_(config.softmax_type),
      tp_rank_(options.tp->rank()),
      cp_comm_type_(config.cp_comm_type),
      cp_(options.cp) {
  if (config.qk_clip) qk_clip_threshold_ = config.qk_clip_threshold;
  if (config.has_window(layer_number)) window_ = {config.window_size[0], /*right=*/0};
  if (softmax_type_ == SoftmaxType::learnable) {
    const int64_t heads_p =
        divide(config.num_attention_heads, options.tp->size(), "attention heads");
    softmax_offset_ = register_parameter(
        "softmax_offset", std::make_shared<Parameter>(std::vector<int64_t>{heads_p}, options.tensor,
                                                      options.sharding(/*dim=*/0),
                                                      Initialization::normal(config.hidden_std())));
  }
}

at::Tensor DotProductAttention::sinks(const at::Tensor& q) const {
  switch (softmax_type_) {
    case SoftmaxType::vanilla:
      return {};
    case SoftmaxType::off_by_one:
      return at::zeros({q.size(2)}, q.options());
    case SoftmaxType::learnable:
      return softmax_offset_->data;
  }
  fail("Expected a known type of softmax");
}

AttentionBackend DotProductAttention::backend_for(const at::Tensor& q, const at::Tensor& k,
                                                  const LayerInput& input, double dropout) const {
  AttentionDemands demands = demands_;
  demands.dropout = dropout > 0.0;
  demands.packed = input.packed_seq_params.has_value();
  demands.mask = input.attention_mask.defined();
  demands.bias = input.attention_bias.defined();
  demands.cached = q.size(0) != k.size(0);
  demands.split_keys = context_parallel() && cp_comm_type_ != CpCommType::a2a;
  return resolve_attention_backend(backend_, demands, q.is_cuda());
}

DotProductAttention::HeadInputs DotProductAttention::head_inputs(
    const at::Tensor& q, int64_t first, const at::Tensor& positions,
    const ForwardContext& context) const {
  return {.dropout = {.p = context.dropout_probability(attention_dropout_),
                      .key = context.key(layer_number_, DropoutSite::attention),
                      .queries = {context.sample_ordinals, positions},
                      .head_offset = tp_rank_ * q.size(2) + first},
          .sinks = sinks(q)};
}

void DotProductAttention::check_scores(const at::Tensor& q, const at::Tensor& k,
                                       const AttentionMask& mask) const {
  const at::NoGradGuard no_grad;
  const at::Tensor keys = k.repeat_interleave(q.size(2) / k.size(2), /*dim=*/2);
  const at::Tensor scores = at::matmul(q.permute({1, 2, 0, 3}), keys.permute({1, 2, 3, 0}));
  const at::Tensor masked = mask.materialize(q.size(0), k.size(0), q.device());
  const double largest = softmax_scale_ * scores.masked_fill(masked, -1e30).max().item<double>();
  check(largest <= *qk_clip_threshold_,
        "Expected attention scores of at most {} with --qk-clip, but got {} in layer {}; this "
        "version does not rescale the weights: a lower learning rate or --qk-layernorm bounds the "
        "scores",
        *qk_clip_threshold_, largest, layer_number_);
}

AttentionMask DotProductAttention::attention_mask(const LayerInput& input) const {
  return {.causal = input.packed_seq_params.has_value() || !input.attention_mask.defined(),
          .window = window_,
          .masked = input.attention_mask};
}

at::Tensor DotProductAttention::forward(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const LayerInput& input,
                                        const ForwardContext& context) const {
  if (context_parallel()) return attend_context_parallel(q, k, v, input, context);
  return attend(q, k, v, input, context, head_inputs(q, /*first=*/0, context.positions, context));
}

at::Tensor DotProductAttention::attend(const at::Tensor& q, const at::Tensor& k,
                                       const at::Tensor& v, const LayerInput& input,
                                       const ForwardContext& context,
                                       const HeadInputs& heads) const {
  const auto& packed = input.packed_seq_params;
  AttentionOptions options{.scale = softmax_scale_,
                           .soft_cap = soft_cap_,
                           .mask = attention_mask(input),
                           .bias = input.attention_bias,
                           .softmax_offset = heads.sinks,
                           .dropout = heads.dropout};
  options.mask.query_offset = k.size(0) - q.size(0);
  if (packed) options.mask.cu_seqlens_q = packed->checked_offsets(k.size(0));
  if (qk_clip_threshold_ && context.training) check_scores(q, k, options.mask);
  switch (backend_for(q, k, input, heads.dropout.p)) {
    case AttentionBackend::flash:
      return causal_attention(q, k, v, softmax_scale_);
    case AttentionBackend::fused:
      if (q.is_cuda()) return cudnn_attention(q, k, v, softmax_scale_);
      return fused_attention(q, k, v, options);
    case AttentionBackend::automatic:
    case AttentionBackend::unfused:
    case AttentionBackend::local:
      break;
  }
  options.scale = softmax_scale_ / layer_scaling_;
  options.softmax_coefficient = layer_scaling_;
  return core_attention(q, k, v, options);
}

}  // namespace megatron
