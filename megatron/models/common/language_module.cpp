#include "megatron/models/common/language_module.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/config/model/attention_backend.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/parallel/collectives.h"
#include "megatron/tensor_parallel/vocab_parallel_cross_entropy.h"
#include "megatron/tensor_parallel/vocab_parallel_linear_cross_entropy.h"

namespace megatron {

LanguageModule::LanguageModule(const GPTModelConfig& config, const PipelineStage& stage,
                               ProcessGroupCollection groups, at::TensorOptions tensor_options)
    : config_(config),
      stage_(stage),
      groups_(std::move(groups)),
      options_{.tensor = tensor_options,
               .tp = groups_.tp,
               .sequence_parallel = config.transformer.sequence_parallel,
               .tp_comm_overlap = config.transformer.tp_comm_overlap,
               .tp_overlaps =
                   config.tp_comm_overlap_cfg.is_set()
                       ? std::make_shared<const TpOverlaps>(tp_overlaps(config.tp_comm_overlap_cfg))
                       : nullptr,
               .cp = groups_.cp,
               .groups = std::make_shared<const ProcessGroupCollection>(groups_)} {
  check_supported(config.transformer);
  check(config.transformer.tensor_model_parallel_size == groups_.tp->size(),
        "Expected tensor_model_parallel_size to be the size of its process group ({}), but got {}",
        groups_.tp->size(), config.transformer.tensor_model_parallel_size);
  set_attention_backend();
}

void LanguageModule::set_attention_backend() {
  const TransformerConfig& transformer = config_.transformer;
  check_attention_environment(transformer.attention_backend);
  attention_backend_ = resolve_attention_backend(transformer.attention_backend,
                                                 AttentionDemands::of_model(transformer),
                                                 options_.tensor.device().is_cuda());
}

at::Tensor LanguageModule::embed(const at::Tensor& input_ids, const at::Tensor& position_ids,
                                 const ForwardContext& context) const {
  const at::Tensor embedded = embedding_->forward(input_ids, position_ids, context);
  const bool needs_scatter =
      options_.sequence_parallel && !config_.scatter_embedding_sequence_parallel;
  return needs_scatter ? scatter_to_sequence_parallel_region(embedded, *groups_.tp) : embedded;
}

at::Tensor LanguageModule::compute_language_model_loss(const at::Tensor& labels,
                                                       const at::Tensor& logits) const {
  const TransformerConfig& config = config_.transformer;
  const auto cross_entropy = config.cross_entropy_loss_fusion ? fused_vocab_parallel_cross_entropy
                                                              : vocab_parallel_cross_entropy;
  return cross_entropy(config_.fp16_lm_cross_entropy ? logits.to(at::kHalf) : logits,
                       labels.transpose(0, 1).contiguous(), *config_.vocab_size, *groups_.tp,
                       config.label_smoothing)
      .transpose(0, 1)
      .contiguous();
}

bool LanguageModule::fuses_linear_cross_entropy() const {
  return config_.transformer.cross_entropy_loss_fusion &&
         config_.transformer.cross_entropy_fusion_impl == CrossEntropyFusion::linear;
}

at::Tensor LanguageModule::compute_output_loss(const at::Tensor& labels,
                                               const at::Tensor& hidden_states,
                                               const ParameterPtr& weight) const {
  const TransformerConfig& config = config_.transformer;
  if (!fuses_linear_cross_entropy()) {
    return compute_language_model_loss(
        labels, compute_logits(hidden_states, /*gather_output=*/false, weight));
  }
  return vocab_parallel_linear_cross_entropy(hidden_states, weight ? weight : output_weight(),
                                             labels.transpose(0, 1).contiguous(),
                                             *config_.vocab_size, *groups_.tp,
                                             {.sequence_parallel = config.sequence_parallel,
                                              .label_smoothing = config.label_smoothing,
                                              .logit_scale = config.output_mult()})
      .transpose(0, 1)
      .contiguous();
}

at::Tensor LanguageModule::compute_logits(const at::Tensor& hidden_states, bool gather_output,
                                          const ParameterPtr& weight) const {
  return scale_logits(
      output_layer_->forward(hidden_states, weight ? weight : output_weight(), gather_output));
}

void LanguageModule::compute_deferred_weight_gradients() const {
  if (output_layer_) output_layer_->compute_deferred_weight_gradients();
}

ParameterPtr LanguageModule::output_weight() const {
  return output_layer_->weight() ? output_layer_->weight() : shared_embedding_or_output_weight();
}

at::Tensor LanguageModule::scale_logits(const at::Tensor& logits) const {
  const double factor = config_.transformer.output_mult();
  const std::optional<double>& cap = config_.transformer.final_logit_softcapping;
  if (cap) return at::tanh(logits * (factor / *cap)) * *cap;
  return factor == 1.0 ? logits : logits * factor;
}

at::TensorOptions LanguageModule::activation_options() const {
  if (!config_.transformer.fp32_residual_connection) return options_.tensor;
  return options_.tensor.dtype(
      accumulation_dtype(c10::typeMetaToScalarType(options_.tensor.dtype())));
}

std::shared_ptr<ColumnParallelLinear> LanguageModule::make_output_layer() const {
  const TransformerConfig& transformer = config_.transformer;
  const bool tied = config_.share_embeddings_and_output_weights;
  std::optional<int64_t> deferral_limit;
  if (transformer.defer_embedding_wgrad_compute) {
    // A micro-batch uses the output layer once for the main loss and once per MTP depth.
    const MultiTokenPredictionConfig& mtp = transformer.mtp;
    deferral_limit =
        transformer.wgrad_deferral_limit * (1 + (mtp.mtp_detach_heads ? 0 : mtp.mtp_num_layers));
  }
  return std::make_shared<ColumnParallelLinear>(
      ColumnParallelLinearArguments{.input_size = transformer.hidden_size,
                                    .output_size = config_.padded_vocab_size(),
                                    .bias = config_.add_output_layer_bias,
                                    .init_std = transformer.mup.use_mup && !tied
                                                    ? transformer.embedding_std()
                                                    : transformer.hidden_std(),
                                    .allocate_weight = !(tied && embedding_),
                                    .weight_gradient_deferral_limit = deferral_limit},
      options_);
}

void LanguageModule::setup_embeddings_and_output_layer() {
  const bool tied = config_.share_embeddings_and_output_weights;
  if (output_layer_ && output_layer_->weight()) {
    Parameter& weight = *output_layer_->weight();
    weight.is_embedding_or_output_parameter = weight.is_embedding_parameter = true;
    weight.allow_shape_mismatch = true;
  }
  // The bias of the output layer has an entry per padded token, too.
  if (output_layer_) {
    for (const ParameterPtr& parameter : output_layer_->parameters())
      parameter->allow_shape_mismatch = true;
  }
  if (output_layer_ && config_.transformer.defer_embedding_wgrad_compute)
    output_weight()->gradient_is_deferred = true;
  // Copies exist with several stages only: a tied output layer copies the word embedding, and a
  // stage with MTP layers copies the complete embedding.
  if (stage_.size == 1) return;
  const bool has_mtp = config_.transformer.mtp.mtp_num_layers > 0;
  if (embedding_) {
    for (const ParameterPtr& parameter : embedding_->parameters()) {
      parameter->shared = !stage_.pre_process;
      parameter->shared_embedding =
          has_mtp || (tied && parameter == embedding_->word_embeddings_weight());
    }
  } else if (tied && output_layer_) {
    output_layer_->weight()->shared = output_layer_->weight()->shared_embedding = true;
  }
}

ParameterPtr LanguageModule::shared_embedding_or_output_weight() const {
  if (embedding_) return embedding_->word_embeddings_weight();
  return output_layer_ ? output_layer_->weight() : nullptr;
}

bool LanguageModule::is_in_embd_group() const {
  if (!groups_.embd) return false;
  if (stage_.has_mtp_layers(config_.transformer)) return true;
  if (groups_.embd->is_first()) return stage_.pre_process;
  if (groups_.embd->is_last()) return stage_.post_process;
  return true;
}

void LanguageModule::synchronize_shared_embedding() const {
  const at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : parameters()) {
    if (!parameter->shared_embedding || parameter->data.is_meta()) continue;
    check(is_in_embd_group(),
          "Expected an embedding group on pipeline stage {}, which holds {}, but got none; groups "
          "from make_model_groups work",
          stage_.rank, parameter->name);
    if (parameter->shared) parameter->data.zero_();
    groups_.embd->all_reduce(parameter->data);
  }
}

}  // namespace megatron
