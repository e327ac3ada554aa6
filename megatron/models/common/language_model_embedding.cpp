#include "megatron/models/common/language_model_embedding.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/ops/embedding.h"
#include "megatron/parallel/collectives.h"

namespace megatron {
namespace {

// Gemma multiplies by sqrt(h), which transformers rounds to the type of the activations: in bf16 by
// 55.5 for h = 3072. The multipliers of other families keep their value.
double multiplier_of(const TransformerConfig& t) {
  const double multiplier = t.embedding_mult();
  if (multiplier != std::sqrt(static_cast<double>(t.hidden_size))) return multiplier;
  return at::scalar_tensor(multiplier, t.compute_dtype()).item<double>();
}

}  // namespace

LearnedPositionEmbedding::LearnedPositionEmbedding(int64_t max_sequence_length, int64_t hidden_size,
                                                   double init_std, const LayerOptions& options) {
  weight_ = register_parameter(
      "weight", std::make_shared<Parameter>(std::vector<int64_t>{max_sequence_length, hidden_size},
                                            options.tensor, options.sharding(),
                                            Initialization::normal(init_std)));
  weight_->is_embedding_parameter = true;
}

at::Tensor LearnedPositionEmbedding::forward(const at::Tensor& position_ids) const {
  const int64_t rows = weight_->data.size(0);
  const int64_t last = position_ids.max().item<int64_t>();
  check(last < rows, "Expected positions below {} (--max-position-embeddings), but got {}", rows,
        last);
  return embedding_lookup(weight_->data, position_ids, /*vocab_start=*/0, weight_->main_grad);
}

LanguageModelEmbedding::LanguageModelEmbedding(const GPTModelConfig& config,
                                               const LayerOptions& options)
    : options_(options),
      hidden_dropout_(config.transformer.hidden_dropout),
      multiplier_(multiplier_of(config.transformer)),
      fp32_residual_(config.transformer.fp32_residual_connection),
      scatter_(options.sequence_parallel && config.scatter_embedding_sequence_parallel) {
  const double std = config.transformer.embedding_std();
  const int64_t hidden_size = config.transformer.hidden_size;
  word_embeddings_ = register_module(
      "word_embeddings", std::make_shared<VocabParallelEmbedding>(config.padded_vocab_size(),
                                                                  hidden_size, std, options));
  if (config.position_embedding_type == PositionEmbeddingType::learned_absolute) {
    position_embeddings_ = register_module(
        "position_embeddings", std::make_shared<LearnedPositionEmbedding>(
                                   config.max_sequence_length(), hidden_size, std, options));
  }
}

at::Tensor LanguageModelEmbedding::forward(const at::Tensor& input_ids,
                                           const at::Tensor& position_ids,
                                           const ForwardContext& context) const {
  return with_hooks([&] { return embed(input_ids, position_ids, context); });
}

at::Tensor LanguageModelEmbedding::embed(const at::Tensor& input_ids,
                                         const at::Tensor& position_ids,
                                         const ForwardContext& context) const {
  const bool has_positions = position_embeddings_ != nullptr;
  // Learned positions are added to the full sequence, so only a lookup without them can
  // reduce-scatter.
  const bool reduce_scatter = scatter_ && !has_positions;
  at::Tensor embedded = word_embeddings_->forward(input_ids, reduce_scatter);
  if (has_positions) {
    check(position_ids.defined(), "Expected position_ids with learned positions, but got none");
    embedded = embedded + position_embeddings_->forward(position_ids);
  }
  if (multiplier_ != 1.0) embedded = embedded * multiplier_;
  if (fp32_residual_) embedded = embedded.to(accumulation_dtype(embedded.scalar_type()));
  if (scatter_ && !reduce_scatter)
    embedded = scatter_to_sequence_parallel_region(embedded, *options_.tp);
  const bool is_full_sequence = embedded.size(0) == context.positions.size(0);
  return dropout(embedded, context.dropout_probability(hidden_dropout_),
                 context.key(/*layer_number=*/0, DropoutSite::embedding),
                 is_full_sequence ? context.attention_index() : context.residual_index());
}

}  // namespace megatron
