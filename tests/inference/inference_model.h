// Small models for tests of the engine.
#pragma once

#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/built_model.h"

namespace megatron {

inline GPTModelConfig inference_test_config(bool rope, int64_t query_groups) {
  GPTModelConfig config;
  config.vocab_size = 61;
  config.make_vocab_size_divisible_by = 4;
  config.should_pad_vocab = true;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = 24;
  config.transformer.num_layers = 2;
  config.transformer.hidden_size = 32;
  config.transformer.num_attention_heads = 4;
  config.transformer.num_query_groups = query_groups;
  config.transformer.init_method_std = 0.2;  // large, so that greedy choices are unambiguous
  if (rope) config.position_embedding_type = PositionEmbeddingType::rope;
  return config;
}

inline std::shared_ptr<GPTModel> inference_test_model(const GPTModelConfig& config,
                                                      const ProcessGroupCollection& groups) {
  auto model = build_gpt_model(config, groups, at::kCPU);
  initialize_weights(*model, 5);
  return model;
}

}  // namespace megatron
