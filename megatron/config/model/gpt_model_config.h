// A GPT model: the transformer and what GPTModel's constructor takes besides (names as in
// Megatron-Bridge's GPTModelConfig).
#pragma once

#include "megatron/config/model/transformer_config.h"

namespace megatron {

struct GPTModelConfig {
  TransformerConfig transformer;

  // Tokens that the tokenizer knows, before padding. 0 where the tokenizer decides.
  int64_t vocab_size = 0;
  // The embedding has padded_vocab_size() rows; columns from vocab_size on count as minus infinity
  // in the softmax, so that the loss does not depend on the padding.
  int64_t make_vocab_size_divisible_by = 128;
  bool should_pad_vocab = true;
  int64_t padded_vocab_size() const;  // in vocabulary.cpp

  int64_t seq_length = 1024;
  std::optional<int64_t> max_position_embeddings;  // seq_length where not given
  int64_t max_sequence_length() const { return max_position_embeddings.value_or(seq_length); }

  PositionEmbeddingType position_embedding_type = PositionEmbeddingType::learned_absolute;
  double rotary_percent = 1.0;
  double rotary_base = 10000;
  bool rope_scaling = false;  // the frequency rescale of Llama 3.1
  double rope_scaling_factor = 8.0;
  std::optional<double> seq_len_interpolation_factor;

  bool share_embeddings_and_output_weights = true;
  bool fp16_lm_cross_entropy = false;  // the loss from logits rounded to half precision
  bool parallel_output = true;         // logits stay split over the tensor parallel ranks
  // Sequence parallelism splits the embedding's output; false: the model splits it afterwards.
  bool scatter_embedding_sequence_parallel = true;
};

}  // namespace megatron
