// Configuration of a GPT model: the transformer and the other arguments of GPTModel (names as in
// Megatron-Bridge's GPTModelConfig).
#pragma once

#include "megatron/config/model/transformer_config.h"

namespace megatron {

struct GPTModelConfig {
  TransformerConfig transformer;

  // Vocabulary size before padding; 0: not set yet, the tokenizer sets it.
  int64_t vocab_size = 0;
  // The embedding has padded_vocab_size() rows. Logits of the padding count as minus infinity in
  // the softmax, so the loss does not depend on the padding.
  int64_t make_vocab_size_divisible_by = 128;
  bool should_pad_vocab = true;
  int64_t padded_vocab_size() const;

  int64_t seq_length = 1024;
  std::optional<int64_t> max_position_embeddings;  // default: seq_length
  int64_t max_sequence_length() const { return max_position_embeddings.value_or(seq_length); }

  PositionEmbeddingType position_embedding_type = PositionEmbeddingType::learned_absolute;
  double rotary_percent = 1.0;
  double rotary_base = 10000;
  bool rope_scaling = false;  // Llama 3.1's frequency scaling
  double rope_scaling_factor = 8.0;
  std::optional<double> seq_len_interpolation_factor;

  bool share_embeddings_and_output_weights = true;
  bool fp16_lm_cross_entropy = false;  // rounds the logits to half precision
  bool parallel_output = true;         // logits stay sharded over the tensor-parallel ranks
  // With sequence parallelism: true: the embedding scatters its output; false: the model does.
  bool scatter_embedding_sequence_parallel = true;

  // Replaces the layout by that of one rank. The padded vocabulary size stays the same.
  void reset_layout();
};

}  // namespace megatron
