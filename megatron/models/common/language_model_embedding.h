// Word embedding plus learned positions, with dropout, laid out for the transformer.
#pragma once

#include "megatron/base/hooked_module.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/tensor_parallel/vocab_parallel_embedding.h"
#include "megatron/transformer/forward_context.h"

namespace megatron {

// A learned vector for each position, held whole on every rank.
class LearnedPositionEmbedding : public MegatronModule {
 public:
  LearnedPositionEmbedding(int64_t max_sequence_length, int64_t hidden_size, double init_std,
                           const LayerOptions& options);

  // position_ids [b, s] int64 -> [s, b, h]. Throws Error for a position outside the table.
  at::Tensor forward(const at::Tensor& position_ids) const;

 private:
  ParameterPtr weight_;
};

class LanguageModelEmbedding : public HookedModule {
 public:
  LanguageModelEmbedding(const GPTModelConfig& config, const LayerOptions& options);

  // input_ids and position_ids [b, s] int64 -> [s, b, h], or this rank's [s/tp, b, h] with sequence
  // parallelism (whole where scatter_embedding_sequence_parallel is off).
  at::Tensor forward(const at::Tensor& input_ids, const at::Tensor& position_ids,
                     const ForwardContext& context) const;

  const ParameterPtr& word_embeddings_weight() const { return word_embeddings_->weight(); }

 private:
  at::Tensor embed(const at::Tensor& input_ids, const at::Tensor& position_ids,
                   const ForwardContext& context) const;

  LayerOptions options_;
  double hidden_dropout_;
  double multiplier_;   // MuP's
  bool fp32_residual_;  // hands out fp32
  bool scatter_;        // hands out this rank's part of the sequence
  std::shared_ptr<VocabParallelEmbedding> word_embeddings_;
  std::shared_ptr<LearnedPositionEmbedding> position_embeddings_;  // null without learned positions
};

}  // namespace megatron
