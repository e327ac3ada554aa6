// Configuration of the transformer, with Megatron's field names (ModelParallelConfig and
// TransformerConfig). Fields hold what the user asked for; validate() in validate.h brings bf16 and
// params_dtype into step and refuses what cannot work.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <c10/core/ScalarType.h>

namespace megatron {

enum class Normalization { LayerNorm, RMSNorm };
enum class ActivationFunction { gelu, silu, squared_relu, quick_gelu };
enum class PositionEmbeddingType { learned_absolute, rope, yarn, mrope, none };
enum class RopeType { rope, yarn };
enum class SoftmaxType { vanilla, off_by_one, learnable };
enum class AttentionBackend { automatic, flash, fused, unfused, local };
enum class CrossEntropyFusion { native, te, linear };
enum class RecomputeGranularity { full, selective };
enum class RecomputeMethod { uniform, block };
enum class CudaGraphImpl { none, local };
enum class CpCommType { p2p, a2a, allgather };

// YaRN (Peng et al., 2023): which rotary frequencies are interpolated, and by how much.
struct YarnConfig {
  double rotary_scaling_factor = 40;
  int64_t original_max_position_embeddings = 4096;
  double beta_fast = 32;
  double beta_slow = 1;
  double mscale = 1;
  double mscale_all_dim = 0;
  bool correction_range_round_to_int = true;
};

// Multi-latent attention (DeepSeek-V2, 2024), with the names of Megatron's MLATransformerConfig.
struct MultiLatentAttentionConfig {
  bool multi_latent_attention = false;
  std::optional<int64_t> q_lora_rank;  // queries straight from the hidden states where not given
  int64_t kv_lora_rank = 32;
  int64_t qk_head_dim = 128;
  int64_t qk_pos_emb_head_dim = 64;
  int64_t v_head_dim = 128;
  RopeType rope_type = RopeType::rope;
  bool cache_mla_latents = false;  // decode from the compressed cache, projections absorbed
  YarnConfig yarn;                 // with rope_type yarn

  int64_t query_head_dim() const { return qk_head_dim + qk_pos_emb_head_dim; }
};

// Multi-token prediction (DeepSeek-V3, 2024).
struct MultiTokenPredictionConfig {
  int64_t mtp_num_layers = 0;  // depths D; 0 turns it off
  double mtp_loss_scaling_factor = 0.1;
  bool mtp_use_repeated_layer = false;  // one layer at every depth
  bool mtp_detach_heads = false;        // its loss trains the prediction layers alone
};

// How layers are shared out over pipeline stages, and in what order micro-batches pass.
struct PipelineConfig {
  // Chunks of layers on each rank (interleaved schedule); 1 where not given.
  std::optional<int64_t> virtual_pipeline_model_parallel_size;
  std::optional<int64_t> num_layers_per_virtual_pipeline_stage;  // another way to say that
  // Micro-batches in a row through one chunk; pipeline_model_parallel_size where not given.
  std::optional<int64_t> microbatch_group_size_per_vp_stage;
  std::optional<int64_t> num_layers_in_first_pipeline_stage, num_layers_in_last_pipeline_stage;
  bool account_for_embedding_in_pipeline_split = false;  // the embedding counts as a layer
  bool account_for_loss_in_pipeline_split = false;       // and so does the loss
  std::string pipeline_model_parallel_layout;            // "Et*3|t*4|tL", say; empty: none
  bool variable_seq_lengths = false;                     // shapes travel before activations
  bool overlap_p2p_comm = true;
  bool deallocate_pipeline_outputs = true;  // what was sent keeps its graph but not its values
};

// Maximal update parametrization (Yang et al., 2022).
struct MupConfig {
  bool use_mup = false;
  std::optional<int64_t> mup_base_hidden_size;  // the hidden size where not given
  double mup_embedding_mult = 1;
  double mup_output_mult = 1;  // 1 means 1 / width multiplier
  std::optional<double> mup_base_head_dim;
  double mup_attn_scale_power = 1;
};

// What is computed a second time in backward instead of kept.
struct RecomputeConfig {
  std::optional<RecomputeGranularity> recompute_granularity;
  std::optional<RecomputeMethod> recompute_method;
  std::optional<int64_t> recompute_num_layers;
  std::vector<std::string> recompute_modules;  // core_attn where selective and none is given

  bool selects(std::string_view module) const;  // selective, and the module is among those
};

// Shape legend, used everywhere: s sequence, b micro-batch, h hidden, n heads, g query groups, d
// head dimension, f feed-forward, v vocabulary; a trailing _p marks the part that one rank holds.
struct TransformerConfig {
  // Parallel layout.
  int64_t tensor_model_parallel_size = 1;
  int64_t pipeline_model_parallel_size = 1;
  int64_t context_parallel_size = 1;
  int64_t expert_model_parallel_size = 1;
  bool sequence_parallel = false;
  bool tp_comm_overlap = false;  // sequence-parallel exchanges in pieces, beside the products
  PipelineConfig pipeline;
  CpCommType cp_comm_type = CpCommType::p2p;
  bool defer_embedding_wgrad_compute = false;  // the output layer's weight gradient waits
  int64_t wgrad_deferral_limit = 0;            // micro-batches it waits for; 0: all

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
  bool layernorm_zero_centered_gamma = false;  // norms multiply by 1 + weight
  double glu_linear_offset = 0;  // added to the projection that the activation is multiplied with
  std::optional<double> activation_func_clamp_value;  // bounds what enters a gated activation
  bool apply_residual_connection_post_layernorm = false;
  bool fp32_residual_connection = false;
  double hidden_dropout = 0.1;

  // Attention.
  AttentionBackend attention_backend = AttentionBackend::automatic;
  bool add_qkv_bias = false;
  bool rotary_interleaved = false;
  std::vector<int64_t> mrope_section;  // of half the rotated features: time, height, width
  // Layers without rotary positions: each whose number the one entry divides, or 1 by layer.
  std::vector<int64_t> no_rope_freq;
  std::optional<double> softmax_scale;  // 1 / sqrt(d) where not given
  bool apply_query_key_layer_scaling = false;
  SoftmaxType softmax_type = SoftmaxType::vanilla;
  std::vector<int64_t> window_size;  // {left, right}: keys within [i - left, i + right]; -1 is open
  // Layers whose number the one entry divides see everything; or 1 by layer that has the window.
  std::vector<int64_t> window_attn_skip_freq;
  bool qk_layernorm = false;
  bool qk_l2_norm = false;
  bool attention_output_gate = false;
  bool qk_clip = false;
  double qk_clip_alpha = 0.5;
  double qk_clip_threshold = 100;
  double attention_dropout = 0.1;
  MultiLatentAttentionConfig mla;
  YarnConfig yarn;  // with position embeddings of type yarn

  MultiTokenPredictionConfig mtp;
  RecomputeConfig recompute;
  MupConfig mup;

  CudaGraphImpl cuda_graph_impl = CudaGraphImpl::none;  // only none works

  // Weights: N(0, std), output projections N(0, std / sqrt(2 layers)), embeddings N(0, embedding
  // std).
  double init_method_std = 0.02;
  std::optional<double> embedding_init_method_std;  // init_method_std where not given

  // Loss: one mean over all tokens of the step, instead of the mean of the micro-batches' means.
  bool calculate_per_token_loss = false;
  bool cross_entropy_loss_fusion = false;
  CrossEntropyFusion cross_entropy_fusion_impl = CrossEntropyFusion::native;
  double label_smoothing = 0;

  // The derived values of the optional fields above.
  int64_t query_groups() const { return num_query_groups.value_or(num_attention_heads); }
  int64_t head_dim() const { return kv_channels.value_or(hidden_size / num_attention_heads); }
  int64_t ffn_size() const { return ffn_hidden_size.value_or(4 * hidden_size); }
  // By a layer's number, from 1.
  bool has_rope(int64_t layer_number) const;
  bool has_window(int64_t layer_number) const;
  // MuP's width multiplier m, 1 without MuP.
  double mup_width_mult() const {
    return mup.use_mup ? double(hidden_size) / mup.mup_base_hidden_size.value_or(hidden_size) : 1.0;
  }
  // What logits are multiplied with.
  double output_mult() const {
    if (!mup.use_mup) return 1.0;
    return mup.mup_output_mult != 1.0 ? mup.mup_output_mult : 1.0 / mup_width_mult();
  }
  // Hidden matrices.
  double hidden_std() const { return init_method_std / std::sqrt(mup_width_mult()); }
  // Output projections (linear_proj, linear_fc2): two residual additions a layer.
  double output_layer_std() const { return hidden_std() / std::sqrt(2.0 * num_layers); }
  double embedding_std() const { return embedding_init_method_std.value_or(init_method_std); }
};

}  // namespace megatron
