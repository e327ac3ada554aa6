// Configuration of the transformer, with Megatron's field names (ModelParallelConfig and
// TransformerConfig). Fields hold what the user asked for; validate() in validate.h brings bf16 and
// params_dtype into step and refuses what cannot work.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include <c10/core/ScalarType.h>

namespace megatron {

enum class Normalization { LayerNorm, RMSNorm };
enum class ActivationFunction { gelu, silu, squared_relu };
enum class PositionEmbeddingType { learned_absolute, rope, none };

// Shape legend, used everywhere: s sequence, b micro-batch, h hidden, n heads, g query groups, d
// head dimension, f feed-forward, v vocabulary; a trailing _p marks the part that one rank holds.
struct TransformerConfig {
  // Parallel layout.
  int64_t tensor_model_parallel_size = 1;
  int64_t pipeline_model_parallel_size = 1;
  int64_t context_parallel_size = 1;
  int64_t expert_model_parallel_size = 1;
  bool sequence_parallel = false;

  // Precision. bf16 means bf16 parameters with fp32 masters.
  bool bf16 = false;
  at::ScalarType params_dtype = at::kFloat;
  std::optional<at::ScalarType> pipeline_dtype;  // between stages; only params_dtype works

  // Architecture.
  int64_t num_layers = 0;
  int64_t hidden_size = 0;                  // h
  int64_t num_attention_heads = 0;          // n
  std::optional<int64_t> num_query_groups;  // g; n where not given
  std::optional<int64_t> kv_channels;       // d; h / n where not given
  std::optional<int64_t> ffn_hidden_size;   // f; 4 h where not given
  Normalization normalization = Normalization::LayerNorm;
  double layernorm_epsilon = 1e-5;
  ActivationFunction activation_func = ActivationFunction::gelu;
  bool gated_linear_unit = false;
  bool bias_activation_fusion = false;  // with gelu: its tanh form, as Megatron's fused kernel
  bool add_bias_linear = true;
  bool add_qkv_bias = false;
  bool rotary_interleaved = false;
  std::optional<double> softmax_scale;  // 1 / sqrt(d) where not given
  double hidden_dropout = 0.1;
  double attention_dropout = 0.1;

  // Weights: N(0, std), output projections N(0, std / sqrt(2 layers)), embeddings N(0, embedding
  // std).
  double init_method_std = 0.02;
  std::optional<double> embedding_init_method_std;  // init_method_std where not given

  // Loss: one mean over all tokens of the step, instead of the mean of the micro-batches' means.
  bool calculate_per_token_loss = false;

  // The derived values of the optional fields above.
  int64_t query_groups() const { return num_query_groups.value_or(num_attention_heads); }
  int64_t head_dim() const { return kv_channels.value_or(hidden_size / num_attention_heads); }
  int64_t ffn_size() const { return ffn_hidden_size.value_or(4 * hidden_size); }
  // Output projections (linear_proj, linear_fc2): two residual additions a layer.
  double output_layer_std() const { return init_method_std / std::sqrt(2.0 * num_layers); }
  double embedding_std() const { return embedding_init_method_std.value_or(init_method_std); }
};

}  // namespace megatron
