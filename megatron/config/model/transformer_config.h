// Configuration of the transformer with the field names of Megatron's ModelParallelConfig and
// TransformerConfig. check_model() in model_checks.h refuses unsupported values and combinations.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <c10/core/ScalarType.h>

#include "megatron/config/model/low_precision_config.h"
#include "megatron/config/model/moe_config.h"

namespace megatron {

enum class Normalization { LayerNorm, RMSNorm };
enum class ActivationFunction { gelu, silu, squared_relu, quick_gelu, openai_gelu };
enum class PositionEmbeddingType { learned_absolute, rope, yarn, mrope, none };
enum class RopeType { rope, yarn };
enum class SoftmaxType { vanilla, off_by_one, learnable };
enum class AttentionBackend { automatic, flash, fused, unfused, local };
enum class CrossEntropyFusion { native, te, linear };
enum class RecomputeGranularity { full, selective };
enum class RecomputeMethod { uniform, block };
enum class TransformerImpl { local, transformer_engine };
enum class CudaGraphImpl { none, local };
enum class CpCommType { p2p, a2a, allgather };
// Norms of the attention and MLP branches: of their input (before), of their output, ahead of the
// residual addition (after: OLMo 2, EXAONE 4), or both (around: Gemma 2, GLM-4).
enum class NormPlacement { before, after, around };
// What qk_layernorm normalizes: each head with weights that all heads share (head), each head with
// its own weights (per_head: Cohere), or all heads of all ranks as one vector (projection: OLMo 2).
enum class QkNormScope { head, per_head, projection };

// YaRN context extension (Peng et al., 2023).
struct YarnConfig {
  double rotary_scaling_factor = 40;
  int64_t original_max_position_embeddings = 4096;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 1;
  double mscale_all_dim = 0;
  bool correction_range_round_to_int = true;

  bool operator==(const YarnConfig&) const = default;
};

// Multi-latent attention (DeepSeek-V2, 2024), with the names of Megatron's MLATransformerConfig.
struct MultiLatentAttentionConfig {
  bool multi_latent_attention = false;
  std::optional<int64_t> q_lora_rank;  // not set: queries are not compressed
  int64_t kv_lora_rank = 32;
  int64_t qk_head_dim = 128;
  int64_t qk_pos_emb_head_dim = 64;
  int64_t v_head_dim = 128;
  RopeType rope_type = RopeType::rope;
  bool cache_mla_latents = false;  // KV cache of latents; decoding absorbs the up-projections
  YarnConfig yarn;                 // with rope_type yarn

  int64_t query_head_dim() const { return qk_head_dim + qk_pos_emb_head_dim; }
};

// Multi-token prediction (DeepSeek-V3, 2024).
struct MultiTokenPredictionConfig {
  int64_t mtp_num_layers = 0;  // number of depths; 0 disables MTP
  double mtp_loss_scaling_factor = 0.1;
  bool mtp_use_repeated_layer = false;  // all depths share one layer
  bool mtp_detach_heads = false;        // the MTP loss trains the MTP layers only
};

// Layers of each pipeline stage, and the order of micro-batches.
struct PipelineConfig {
  // Model chunks per rank (interleaved schedule); default 1.
  std::optional<int64_t> virtual_pipeline_model_parallel_size;
  // Alternative to virtual_pipeline_model_parallel_size.
  std::optional<int64_t> num_layers_per_virtual_pipeline_stage;
  // Consecutive micro-batches of a model chunk; default pipeline_model_parallel_size.
  std::optional<int64_t> microbatch_group_size_per_vp_stage;
  std::optional<int64_t> num_layers_in_first_pipeline_stage, num_layers_in_last_pipeline_stage;
  bool account_for_embedding_in_pipeline_split = false;  // the embedding counts as a layer
  bool account_for_loss_in_pipeline_split = false;       // the loss counts as a layer
  std::string pipeline_model_parallel_layout;            // for example "Et*3|t*4|tL"; may be empty
  bool variable_seq_lengths = false;                     // shapes are sent before activations
  bool overlap_p2p_comm = true;
  bool deallocate_pipeline_outputs = true;  // frees an output's values once it is sent
};

// Maximal update parametrization (Yang et al., 2022).
struct MupConfig {
  bool use_mup = false;
  std::optional<int64_t> mup_base_hidden_size;  // default: hidden_size
  double mup_embedding_mult = 1;
  double mup_output_mult = 1;  // 1 means 1 / width multiplier
  std::optional<double> mup_base_head_dim;
  double mup_attn_scale_power = 1;
};

// Activation recomputation.
struct RecomputeConfig {
  std::optional<RecomputeGranularity> recompute_granularity;
  std::optional<RecomputeMethod> recompute_method;
  std::optional<int64_t> recompute_num_layers;
  std::vector<std::string> recompute_modules;  // with selective; default core_attn

  // Whether the granularity is selective and `module` is recomputed.
  bool selects(std::string_view module) const;
};

// Shape legend, used everywhere: s sequence, b micro-batch, h hidden, n heads, g query groups, d
// head dimension, f feed-forward, v vocabulary; the suffix _p marks a per-rank shard.
struct TransformerConfig {
  // Parallel layout.
  int64_t tensor_model_parallel_size = 1;
  int64_t pipeline_model_parallel_size = 1;
  int64_t context_parallel_size = 1;
  int64_t expert_model_parallel_size = 1;  // EP
  bool sequence_parallel = false;
  bool tp_comm_overlap = false;  // splits sequence-parallel collectives to overlap them with GEMMs
  PipelineConfig pipeline;
  CpCommType cp_comm_type = CpCommType::p2p;
  bool defer_embedding_wgrad_compute = false;  // defers the output layer's weight gradient
  int64_t wgrad_deferral_limit = 0;            // deferred micro-batches; 0: all

  // Precision. bf16 and fp16 mean parameters in that dtype with fp32 master weights, fp16 with loss
  // scaling too. Parameters are created in params_dtype; Float16Module converts those of fp32 where
  // one of the two is set.
  bool bf16 = false;
  bool fp16 = false;
  at::ScalarType params_dtype = at::kFloat;
  std::optional<at::ScalarType> pipeline_dtype;  // between stages; only compute_dtype() works
  // false: the builder leaves the weights uninitialized; the caller loads them.
  bool perform_initialization = true;

  // Modules of the layers that default_layer_spec gives: separate norms and linears (local), or the
  // norm fused into the linear that consumes it (transformer_engine).
  TransformerImpl transformer_impl = TransformerImpl::transformer_engine;

  // Architecture.
  int64_t num_layers = 0;
  int64_t hidden_size = 0;                  // h
  int64_t num_attention_heads = 0;          // n
  std::optional<int64_t> num_query_groups;  // g; default n
  std::optional<int64_t> kv_channels;       // d; default h / n
  std::optional<int64_t> ffn_hidden_size;   // f; default 4 h
  Normalization normalization = Normalization::LayerNorm;
  double layernorm_epsilon = 1e-5;
  ActivationFunction activation_func = ActivationFunction::gelu;
  bool gated_linear_unit = false;
  bool bias_activation_fusion = false;  // with gelu: the tanh form, as Megatron's fused kernel
  bool add_bias_linear = true;
  std::optional<bool> add_proj_bias;           // of linear_proj; default add_bias_linear
  std::optional<bool> add_mlp_bias;            // of the MLP; default add_bias_linear
  bool layernorm_zero_centered_gamma = false;  // norms scale by 1 + weight
  bool layernorm_bias = true;                  // false: LayerNorm without bias
  NormPlacement norm_placement = NormPlacement::before;
  // x + attention(norm(x)) + mlp(norm(x)): both branches read the layer's input (GPT-NeoX).
  bool use_parallel_residual = false;
  bool share_parallel_layernorm = false;  // with use_parallel_residual: one norm for both (Cohere)
  double glu_linear_offset = 0;           // added to the linear half of a gated unit
  std::optional<double> activation_func_clamp_value;  // clamps the inputs of a gated unit
  bool apply_residual_connection_post_layernorm = false;
  bool fp32_residual_connection = false;
  double hidden_dropout = 0.1;
  // Multipliers of the embedding's output (Gemma: sqrt(h)), of both branches of a layer before the
  // residual addition, and of the logits (Granite, Cohere).
  double embedding_multiplier = 1;
  double residual_multiplier = 1;
  double logit_multiplier = 1;
  // cap * tanh(x / cap) of the attention scores, before masks, and of the logits (Gemma 2).
  std::optional<double> attn_logit_softcapping, final_logit_softcapping;

  // Attention.
  AttentionBackend attention_backend = AttentionBackend::automatic;
  bool add_qkv_bias = false;
  bool rotary_interleaved = false;
  std::vector<int64_t> mrope_section;  // frequencies per axis: time, height, width
  // Layers without rotary embeddings: {N} every Nth layer, or one 0 or 1 per layer.
  std::vector<int64_t> no_rope_freq;
  std::optional<double> softmax_scale;  // default 1 / sqrt(d)
  // Divides the scores by the layer number, and multiplies them by it inside the softmax.
  bool apply_query_key_layer_scaling = false;
  SoftmaxType softmax_type = SoftmaxType::vanilla;
  std::vector<int64_t> window_size;  // {left, right}: keys in [i - left, i + right]; -1: no bound
  // Layers with full attention: {N} every Nth layer, or per layer 1 (window) or 0 (full).
  std::vector<int64_t> window_attn_skip_freq;
  bool qk_layernorm = false;
  QkNormScope qk_layernorm_scope = QkNormScope::head;
  bool qk_l2_norm = false;
  bool attention_output_gate = false;
  bool qk_clip = false;
  double qk_clip_alpha = 0.5;  // only 0.5 works
  double qk_clip_threshold = 100;
  double attention_dropout = 0.1;
  MultiLatentAttentionConfig mla;
  YarnConfig yarn;  // with position_embedding_type yarn

  MoeConfig moe;
  MultiTokenPredictionConfig mtp;
  RecomputeConfig recompute;
  MupConfig mup;
  LowPrecisionConfig low_precision;

  CudaGraphImpl cuda_graph_impl = CudaGraphImpl::none;  // only none works

  // Initial weights: N(0, std); output projections N(0, std / sqrt(2 layers)).
  double init_method_std = 0.02;
  std::optional<double> embedding_init_method_std;  // default: init_method_std

  // Loss: the mean over all tokens of the step instead of the mean of micro-batch means.
  bool calculate_per_token_loss = false;
  bool cross_entropy_loss_fusion = false;
  CrossEntropyFusion cross_entropy_fusion_impl = CrossEntropyFusion::native;
  double label_smoothing = 0;

  // The dtype of parameters and activations in training.
  at::ScalarType compute_dtype() const {
    return bf16 ? at::kBFloat16 : fp16 ? at::kHalf : params_dtype;
  }
  // Whether `layer_number`, from 1, of the decoder has quantised linear layers.
  bool has_low_precision(int64_t layer_number) const;

  // Values of the optional fields with their defaults.
  int64_t query_groups() const { return num_query_groups.value_or(num_attention_heads); }
  int64_t head_dim() const { return kv_channels.value_or(hidden_size / num_attention_heads); }
  int64_t ffn_size() const { return ffn_hidden_size.value_or(4 * hidden_size); }
  bool has_qkv_bias() const { return add_bias_linear || add_qkv_bias; }
  bool has_proj_bias() const { return add_proj_bias.value_or(add_bias_linear); }
  bool has_mlp_bias() const { return add_mlp_bias.value_or(add_bias_linear); }
  bool has_norms_before() const { return norm_placement != NormPlacement::after; }
  bool has_norms_after() const { return norm_placement != NormPlacement::before; }
  int64_t moe_ffn_size() const { return moe.moe_ffn_hidden_size.value_or(ffn_size()); }
  int64_t expert_tensor_parallel() const {
    return moe.expert_tensor_parallel_size.value_or(tensor_model_parallel_size);
  }
  // `layer_number` counts from 1.
  // Whether any layer has an MLP rather than experts.
  bool has_dense_layer() const;
  bool has_rope(int64_t layer_number) const;
  bool has_window(int64_t layer_number) const;
  // MuP's width multiplier; 1 without MuP.
  double mup_width_mult() const {
    return mup.use_mup ? double(hidden_size) / mup.mup_base_hidden_size.value_or(hidden_size) : 1.0;
  }
  // Factor of the logits: logit_multiplier, and MuP's.
  double output_mult() const {
    if (!mup.use_mup) return logit_multiplier;
    return logit_multiplier *
           (mup.mup_output_mult != 1.0 ? mup.mup_output_mult : 1.0 / mup_width_mult());
  }
  // Factor of the embedding's output: embedding_multiplier, and MuP's.
  double embedding_mult() const {
    return embedding_multiplier * (mup.use_mup ? mup.mup_embedding_mult : 1.0);
  }
  // Standard deviation of hidden matrices.
  double hidden_std() const { return init_method_std / std::sqrt(mup_width_mult()); }
  // Standard deviation of output projections (linear_proj, linear_fc2).
  double output_layer_std() const { return hidden_std() / std::sqrt(2.0 * num_layers); }
  double embedding_std() const { return embedding_init_method_std.value_or(init_method_std); }

  // Resets every field of the parallel layout to the default: one rank.
  void reset_layout();
};

}  // namespace megatron
