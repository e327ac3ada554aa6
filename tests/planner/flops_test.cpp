// Model FLOPs against the number of weights of the model.
#include "megatron/planner/flops.h"

#include <gtest/gtest.h>

#include "megatron/models/gpt/gpt_builder.h"

#include "tests/models/gpt/built_model.h"

namespace megatron {
namespace {

GPTModelConfig untied_config() {
  GPTModelConfig config;
  config.vocab_size = 96;
  config.should_pad_vocab = false;
  config.share_embeddings_and_output_weights = false;
  config.seq_length = 8;
  config.position_embedding_type = PositionEmbeddingType::rope;
  TransformerConfig& t = config.transformer;
  t.num_layers = 3;
  t.hidden_size = 24;
  t.num_attention_heads = 4;
  t.add_bias_linear = false;
  return config;
}

// 6 per token and matrix weight; the embedding is looked up and counts nothing.
double matrix_flops(const GPTModelConfig& config) {
  double weights = 0;
  const auto model = build_gpt_model(config, ProcessGroupCollection::single_rank(), at::kMeta);
  for (const ParameterPtr& parameter : model->parameters()) {
    if (parameter->data.dim() == 2 && !parameter->name.starts_with("embedding."))
      weights += double(parameter->data.numel());
  }
  return 6 * weights * config.seq_length;
}

TEST(ModelFlops, CountMatricesAndHalfOfAttention) {
  GPTModelConfig config = untied_config();
  config.transformer.num_query_groups = 2;
  const double attention = 3 * 6.0 * 8 * 8 * 4 * 6;  // layers, 6 s^2 n d
  EXPECT_DOUBLE_EQ(model_flops(config, 5), 5 * (matrix_flops(config) + attention));
}

TEST(ModelFlops, CountLatentAttentionByItsSizes) {
  for (const bool query_latent : {true, false}) {
    GPTModelConfig config = untied_config();
    MultiLatentAttentionConfig& mla = config.transformer.mla;
    mla = {.multi_latent_attention = true,
           .q_lora_rank = 12,
           .kv_lora_rank = 10,
           .qk_head_dim = 8,
           .qk_pos_emb_head_dim = 4,
           .v_head_dim = 7};
    if (!query_latent) mla.q_lora_rank.reset();
    const double attention = 3 * 3.0 * 8 * 8 * 4 * (8 + 4 + 7);  // layers, 3 s^2 n (d + dv)
    EXPECT_DOUBLE_EQ(model_flops(config, 5), 5 * (matrix_flops(config) + attention));
  }
}

}  // namespace
}  // namespace megatron
