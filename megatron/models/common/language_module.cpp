#include "megatron/models/common/language_module.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/tensor_parallel/vocab_parallel_cross_entropy.h"

namespace megatron {

LanguageModule::LanguageModule(const GPTModelConfig& config, const PipelineStage& stage,
                               ProcessGroupCollection groups, at::TensorOptions tensor_options)
    : config_(config),
      stage_(stage),
      groups_(std::move(groups)),
      options_{tensor_options, groups_.tp, config.transformer.sequence_parallel} {}

at::Tensor LanguageModule::compute_language_model_loss(const at::Tensor& labels,
                                                       const at::Tensor& logits) const {
  return vocab_parallel_cross_entropy(logits, labels.transpose(0, 1).contiguous(),
                                      config_.vocab_size, *groups_.tp)
      .transpose(0, 1)
      .contiguous();
}

at::Tensor LanguageModule::scale_logits(const at::Tensor& logits) const {
  const double factor = config_.transformer.output_mult();
  return factor == 1.0 ? logits : logits * factor;
}

at::TensorOptions LanguageModule::activation_options() const {
  if (!config_.transformer.fp32_residual_connection) return options_.tensor;
  return options_.tensor.dtype(
      accumulation_dtype(c10::typeMetaToScalarType(options_.tensor.dtype())));
}

void LanguageModule::setup_embeddings_and_output_layer() {
  if (embedding_) {
    embedding_->word_embeddings_weight()->shared_embedding =
        config_.share_embeddings_and_output_weights;
  }
  if (!stage_.post_process) return;
  const bool tied = config_.share_embeddings_and_output_weights;
  output_layer_ = register_module(
      "output_layer",
      std::make_shared<ColumnParallelLinear>(
          ColumnParallelLinearArguments{.input_size = config_.transformer.hidden_size,
                                        .output_size = config_.padded_vocab_size(),
                                        .bias = false,
                                        .init_std = config_.transformer.mup.use_mup && !tied
                                                        ? config_.transformer.embedding_std()
                                                        : config_.transformer.hidden_std(),
                                        .allocate_weight = !(tied && stage_.pre_process)},
          options_));
  if (const ParameterPtr& weight = output_layer_->weight()) {
    weight->is_embedding_or_output_parameter = weight->is_embedding_parameter = true;
    weight->allow_shape_mismatch = true;
    weight->shared = weight->shared_embedding = tied;
  }
}

ParameterPtr LanguageModule::shared_embedding_or_output_weight() const {
  if (embedding_) return embedding_->word_embeddings_weight();
  return output_layer_ ? output_layer_->weight() : nullptr;
}

void LanguageModule::synchronize_shared_embedding() const {
  if (!config_.share_embeddings_and_output_weights || stage_.size == 1 || !groups_.embd) return;
  const ParameterPtr weight = shared_embedding_or_output_weight();
  at::NoGradGuard no_grad;
  groups_.embd->broadcast(weight->data, /*group_root=*/0);
}

}  // namespace megatron
