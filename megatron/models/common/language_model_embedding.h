// Word embedding plus optional learned position embedding, with dropout, in the transformer's
// layout.
#pragma once

#include "megatron/base/hooked_module.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/tensor_parallel/vocab_parallel_embedding.h"
#include "megatron/transformer/forward_context.h"

namespace megatron {

// Learned position embedding, replicated over tensor-parallel ranks.
class LearnedPositionEmbedding : public MegatronModule {
 public:
  LearnedPositionEmbedding(int64_t max_sequence_length, int64_t hidden_size, double init_std,
                           const LayerOptions& options);

  // position_ids [b, s] int64 -> [s, b, h]. Throws Error for a position beyond the table.
  at::Tensor forward(const at::Tensor& position_ids) const;

 private:
  ParameterPtr weight_;
};

class LanguageModelEmbedding : public HookedModule {
 public:
  LanguageModelEmbedding(const GPTModelConfig& config, const LayerOptions& options);

  // input_ids and position_ids [b, s] int64 -> [s, b, h], or this rank's [s/tp, b, h] with sequence
  // parallelism and scatter_embedding_sequence_parallel.
  at::Tensor forward(const at::Tensor& input_ids, const at::Tensor& position_ids,
                     const ForwardContext& context) const;

  const ParameterPtr& word_embeddings_weight() const { return word_embeddings_->weight(); }

 private:
  at::Tensor embed(const at::Tensor& input_ids, const at::Tensor& position_ids,
                   const ForwardContext& context) const;

  LayerOptions options_;
  double hidden_dropout_;
  double multiplier_;
  bool fp32_residual_;  // returns fp32
  bool scatter_;        // returns this rank's sequence shard
  std::shared_ptr<VocabParallelEmbedding> word_embeddings_;
  std::shared_ptr<LearnedPositionEmbedding>
      position_embeddings_;  // null unless positions are learned
};

}  // namespace megatron
