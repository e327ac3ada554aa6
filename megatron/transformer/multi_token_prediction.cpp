#include "megatron/transformer/multi_token_prediction.h"

#include <ATen/core/grad_mode.h>

#include "megatron/base/error.h"
#include "megatron/transformer/module_registry.h"
#include "megatron/transformer/nested_graph.h"
#include "megatron/transformer/roll_left.h"

namespace megatron {

std::string mtp_layer_slot(int64_t i) {
  return fmt::format("layer_specs[{}]", i);
}

MultiTokenPredictionBlock::MultiTokenPredictionBlock(const TransformerConfig& config,
                                                     const ModuleSpec& spec,
                                                     const LayerOptions& options)
    : cp_(options.cp),
      num_depths_(config.mtp.mtp_num_layers),
      num_decoder_layers_(config.num_layers),
      detach_heads_(config.mtp.mtp_detach_heads),
      recomputes_layers_(config.recompute.recompute_granularity == RecomputeGranularity::full &&
                         config.recompute.recompute_method == RecomputeMethod::uniform) {
  const auto expected = static_cast<size_t>(config.mtp.mtp_use_repeated_layer ? 1 : num_depths_);
  check(spec.module == kMultiTokenPredictionBlock, "Expected a spec of {}, but got one of {}",
        kMultiTokenPredictionBlock, spec.module);
  check(num_depths_ > 0 && spec.submodules.size() == expected,
        "Expected {} MTP layer specs for mtp_num_layers {}{}, but got {}", expected, num_depths_,
        config.mtp.mtp_use_repeated_layer ? " with mtp_use_repeated_layer" : "",
        spec.submodules.size());
  for (int64_t i = 0; i < static_cast<int64_t>(expected); ++i) {
    layers_.push_back(
        register_module(fmt::format("layers.{}", i),
                        mtp_layer_modules().build({spec.at(mtp_layer_slot(i)), config, options,
                                                   /*layer_number=*/i + 1})));
  }
  if (!detach_heads_) return;
  for (const ParameterPtr& parameter : parameters()) {
    parameter->gradient_norm_group = GradientNormGroup::multi_token_prediction;
  }
}

at::Tensor MultiTokenPredictionBlock::run_layer(int64_t depth, const at::Tensor& hidden_states,
                                                const at::Tensor& next_embedding,
                                                const LayerInput& input,
                                                const ForwardContext& context) const {
  const bool is_repeated = std::ssize(layers_) < num_depths_;
  const auto run = [layer = layers_[is_repeated ? 0 : depth], input, context](const Tensors& list) {
    LayerInput with_bias = input;
    with_bias.attention_bias = list[2];
    return Tensors{layer->forward(list[0], list[1], with_bias, context)};
  };
  const Tensors inputs = {hidden_states, next_embedding, input.attention_bias};
  if (recomputes_layers_) return Recomputation(true, run, inputs).outputs()[0];
  return is_repeated ? run_in_nested_graph(run, inputs) : run(inputs)[0];
}

std::vector<at::Tensor> MultiTokenPredictionBlock::forward(
    at::Tensor hidden_states, at::Tensor input_ids, at::Tensor position_ids,
    const TokenEmbedding& embedding, const LayerInput& input, const ForwardContext& context) const {
  const auto embedded = [&](const ForwardContext& at_depth) {
    const at::AutoGradMode grad_mode(at::GradMode::is_enabled() && !detach_heads_);
    return embedding(input_ids, position_ids, at_depth);
  };
  if (detach_heads_) hidden_states = hidden_states.detach();
  std::vector<at::Tensor> by_depth;
  at::Tensor padding_mask = context.padding_mask;
  for (int64_t depth = 0; depth < num_depths_; ++depth) {
    ForwardContext at_depth = context;
    at_depth.layer_offset = num_decoder_layers_ + depth;
    input_ids = roll_left(input_ids, input.packed_seq_params, cp_.get());
    if (position_ids.defined())
      position_ids = roll_left(position_ids, input.packed_seq_params, cp_.get());
    if (padding_mask.defined()) {
      padding_mask =
          roll_left(padding_mask.to(at::kByte), input.packed_seq_params, cp_.get()).to(at::kBool);
      at_depth.padding_mask = padding_mask;
    }
    hidden_states = run_layer(depth, hidden_states, embedded(at_depth), input, at_depth);
    by_depth.push_back(hidden_states);
  }
  return by_depth;
}

}  // namespace megatron
