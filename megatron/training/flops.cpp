#include "megatron/training/flops.h"

namespace megatron {

double model_flops(const GPTModelConfig& config, int64_t sequences) {
  const TransformerConfig& t = config.transformer;
  const double h = t.hidden_size, s = config.seq_length;
  const double query_size = double(t.num_attention_heads * t.head_dim());
  const double key_value_size = 2.0 * double(t.query_groups() * t.head_dim());
  const double mlp_matrices = t.gated_linear_unit ? 3 : 2;
  const double weights_per_layer =
      h * (query_size + key_value_size) + query_size * h + mlp_matrices * h * double(t.ffn_size());
  const double weights = t.num_layers * weights_per_layer + h * double(config.padded_vocab_size());
  const double attention = 6.0 * s * s * query_size * t.num_layers;
  return sequences * (6.0 * s * weights + attention);
}

}  // namespace megatron
