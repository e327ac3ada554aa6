// Checks of the MLP, recomputation, multi-token prediction, MuP and the loss.
#include <string>

#include "megatron/base/problems.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {

void check_activation(const TransformerConfig& t, Problems& problems) {
  problems.expect(
      t.gated_linear_unit || t.glu_linear_offset == 0,
      "Expected gated_linear_unit with glu_linear_offset {}, but got none; leave one out",
      t.glu_linear_offset);
  problems.expect(t.gated_linear_unit || !t.activation_func_clamp_value,
                  "Expected gated_linear_unit with activation_func_clamp_value, but got none; "
                  "leave one out");
  problems.expect(t.activation_func_clamp_value.value_or(1) > 0,
                  "Expected activation_func_clamp_value above 0, but got {}; 7 is usual",
                  t.activation_func_clamp_value.value_or(1));
  const bool fusible = t.activation_func == ActivationFunction::gelu ||
                       (t.activation_func == ActivationFunction::silu && t.gated_linear_unit);
  problems.expect(!t.bias_activation_fusion || fusible,
                  "Expected gelu or SwiGLU with bias_activation_fusion, but got {}; leave "
                  "bias_activation_fusion out",
                  enum_name(t.activation_func));
  problems.expect(!t.gated_linear_unit || t.activation_func != ActivationFunction::squared_relu,
                  "Expected activation_func gelu, openai_gelu, quick_gelu or silu with "
                  "gated_linear_unit, but got squared_relu; leave one out");
  problems.expect(t.gated_linear_unit || t.activation_func != ActivationFunction::silu,
                  "Expected gated_linear_unit with activation_func silu, but got none; give both, "
                  "or gelu, openai_gelu, quick_gelu or squared_relu");
}

void check_norms_and_residual(const TransformerConfig& t, Problems& problems) {
  const TransformerConfig defaults;
  problems.expect(t.layernorm_bias || t.normalization == Normalization::LayerNorm,
                  "Expected normalization=LayerNorm with layernorm_bias=false, but got RMSNorm, "
                  "which has no bias; leave one out");
  problems.expect(t.use_parallel_residual || !t.share_parallel_layernorm,
                  "Expected use_parallel_residual with share_parallel_layernorm, but got none; "
                  "give both or neither");
  problems.expect(!t.use_parallel_residual || t.norm_placement == defaults.norm_placement,
                  "Expected norm_placement=before with use_parallel_residual, but got {}; leave "
                  "one out",
                  enum_name(t.norm_placement));
  const bool after_norm = t.apply_residual_connection_post_layernorm;
  problems.expect(!after_norm || (!t.use_parallel_residual && !t.has_norms_after()),
                  "Expected apply_residual_connection_post_layernorm without use_parallel_residual "
                  "and with norm_placement=before, but got another; leave one out");
  const auto is_multiplier = [&](const char* field, double value) {
    problems.expect(value > 0, "Expected {} above 0, but got {}; 1 changes nothing", field, value);
  };
  is_multiplier("embedding_multiplier", t.embedding_multiplier);
  is_multiplier("residual_multiplier", t.residual_multiplier);
  is_multiplier("logit_multiplier", t.logit_multiplier);
}

void check_recomputation(const TransformerConfig& t, Problems& problems) {
  const RecomputeConfig& r = t.recompute;
  const bool full = r.recompute_granularity == RecomputeGranularity::full;
  const bool selective = r.recompute_granularity == RecomputeGranularity::selective;
  problems.expect(full || (!r.recompute_method && !r.recompute_num_layers),
                  "Expected recompute_granularity full with recompute_method and "
                  "recompute_num_layers, but got another; leave them out");
  problems.expect(!full || (r.recompute_method && r.recompute_num_layers),
                  "Expected recompute_method and recompute_num_layers with recompute_granularity "
                  "full, but got not both; uniform and 1 work");
  if (full && r.recompute_num_layers) {
    problems.at_least("recompute_num_layers", *r.recompute_num_layers, 1);
  }
  problems.expect(selective || r.recompute_modules.empty(),
                  "Expected recompute_granularity selective with recompute_modules, but got "
                  "another; leave them out");
  for (const std::string& module : r.recompute_modules) {
    const bool known = module == "core_attn" || module == "layernorm" || module == "mlp" ||
                       module == "mla_up_proj";
    const bool of_experts = module == "moe" || module == "moe_act" || module == "shared_experts";
    problems.expect(known || of_experts,
                    "Expected core_attn, layernorm, mla_up_proj, mlp, moe, moe_act or "
                    "shared_experts for recompute_modules, but got '{}'",
                    module);
    problems.expect(module != "mlp" || t.has_dense_layer(),
                    "Expected a dense layer with recompute_modules mlp, but all {} layers have "
                    "experts; moe works",
                    t.num_layers);
    problems.expect(
        !of_experts || t.moe.has_experts(),
        "Expected num_moe_experts with recompute_modules {}, but got none; leave {} out", module,
        module);
    problems.expect(module != "shared_experts" || t.moe.moe_shared_expert_intermediate_size,
                    "Expected moe_shared_expert_intermediate_size with recompute_modules "
                    "shared_experts, but got none; leave shared_experts out");
    problems.expect(module != "mla_up_proj" || t.mla.multi_latent_attention,
                    "Expected multi_latent_attention with recompute_modules mla_up_proj, but got "
                    "none; leave mla_up_proj out");
  }
}

void check_multi_token_prediction(const GPTModelConfig& config, Problems& problems) {
  const TransformerConfig& t = config.transformer;
  const MultiTokenPredictionConfig& mtp = t.mtp;
  problems.at_least("mtp_num_layers", mtp.mtp_num_layers, 0);
  problems.expect(mtp.mtp_num_layers < config.seq_length,
                  "Expected mtp_num_layers below seq_length ({}), but got {}; deeper ones have no "
                  "token to predict",
                  config.seq_length, mtp.mtp_num_layers);
  problems.expect(mtp.mtp_num_layers > 0 || (!mtp.mtp_use_repeated_layer && !mtp.mtp_detach_heads),
                  "Expected mtp_num_layers of at least 1 with mtp_use_repeated_layer or "
                  "mtp_detach_heads, but got 0; 1 works");
  problems.expect(!mtp.mtp_detach_heads || !config.add_output_layer_bias,
                  "Expected mtp_detach_heads or add_output_layer_bias, but got both; the MTP loss "
                  "would train the bias: leave one out");
  const bool per_layer = t.no_rope_freq.size() > 1 || t.window_attn_skip_freq.size() > 1;
  problems.expect(!per_layer || mtp.mtp_num_layers <= t.num_layers,
                  "Expected mtp_num_layers of at most num_layers ({}) with one entry per layer in "
                  "no_rope_freq or window_attn_skip_freq, but got {}; MTP layers are numbered from "
                  "1 again",
                  t.num_layers, mtp.mtp_num_layers);
  problems.expect(mtp.mtp_loss_scaling_factor >= 0,
                  "Expected mtp_loss_scaling_factor of at least 0, but got {}; 0.1 is usual",
                  mtp.mtp_loss_scaling_factor);
}

void check_mup(const TransformerConfig& t, Problems& problems) {
  const MupConfig& mup = t.mup;
  const MupConfig defaults;
  problems.expect(mup.use_mup || (!mup.mup_base_hidden_size && !mup.mup_base_head_dim &&
                                  mup.mup_embedding_mult == defaults.mup_embedding_mult &&
                                  mup.mup_output_mult == defaults.mup_output_mult &&
                                  mup.mup_attn_scale_power == defaults.mup_attn_scale_power),
                  "Expected use_mup with the other mup_* options, but got none; leave them out");
  if (mup.mup_base_hidden_size) problems.is_size("mup_base_hidden_size", *mup.mup_base_hidden_size);
  problems.expect(mup.mup_base_head_dim.value_or(1) > 0,
                  "Expected mup_base_head_dim above 0, but got {}; 64 is usual",
                  mup.mup_base_head_dim.value_or(1));
}

void check_loss(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  problems.expect(t.label_smoothing >= 0 && t.label_smoothing < 1,
                  "Expected label_smoothing of at least 0 and below 1, but got {}; 0 disables it",
                  t.label_smoothing);
  const bool linear =
      t.cross_entropy_loss_fusion && t.cross_entropy_fusion_impl == CrossEntropyFusion::linear;
  problems.expect(t.final_logit_softcapping.value_or(1) > 0,
                  "Expected final_logit_softcapping above 0, but got {}; 30 is Gemma 2's",
                  t.final_logit_softcapping.value_or(1));
  problems.expect(!linear || !t.final_logit_softcapping,
                  "Expected final_logit_softcapping or cross_entropy_fusion_impl=linear, but got "
                  "both; the linear fusion has no logits to cap: leave one out");
  problems.expect(!linear || !config.add_output_layer_bias,
                  "Expected add_output_layer_bias or cross_entropy_fusion_impl=linear, but got "
                  "both; the linear fusion has no bias: leave one out");
  problems.expect(!linear || !config.fp16_lm_cross_entropy,
                  "Expected fp16_lm_cross_entropy or cross_entropy_fusion_impl=linear, but got "
                  "both; the linear fusion has no logits to round");
  problems.expect(!t.fp32_residual_connection || t.compute_dtype() != at::kDouble,
                  "Expected fp32 or bf16 with fp32_residual_connection, but got fp64; leave it "
                  "out");
}

}  // namespace megatron
