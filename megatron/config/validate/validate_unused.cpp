// Options that change nothing beside the others: refused, so that nobody believes in them. An
// option given at its default is let pass.
#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {

void check_unused(const Options& options, Problems& problems) {
  const auto& t = options.model.transformer;
  const TransformerConfig defaults;
  const auto needs = [&](bool used, const char* given, const char* needed) {
    problems.expect(used, "Expected {} with {}, but got none; give both or neither", needed, given);
  };
  const bool yarn = options.model.position_embedding_type == PositionEmbeddingType::yarn;
  needs(same(t.yarn, defaults.yarn) || yarn, "the --yarn-* options",
        "--position-embedding-type yarn");
  const auto excludes = [&](bool holds, const char* given, const char* other) {
    problems.expect(!holds, "Expected {} or {}, but got both; leave {} out", given, other, given);
  };
  excludes(yarn && options.model.rotary_percent != 1, "--rotary-percent",
           "--position-embedding-type yarn");
  excludes(yarn && options.model.rope_scaling, "--use-rope-scaling",
           "--position-embedding-type yarn");
  excludes(t.mla.multi_latent_attention && t.kv_channels, "--kv-channels",
           "--multi-latent-attention");
  excludes(t.softmax_scale && (t.mup.mup_base_head_dim || t.mup.mup_attn_scale_power != 1),
           "--mup-base-head-dim or --mup-attn-scale-power", "--softmax-scale");
  needs(t.mup.use_mup || options.optimizer.mup_scales_learning_rate, "--no-mup-learning-rates",
        "--use-mup");
  needs(t.qk_clip || t.qk_clip_threshold == defaults.qk_clip_threshold, "--qk-clip-threshold",
        "--qk-clip");
  needs(t.cross_entropy_loss_fusion || t.cross_entropy_fusion_impl == CrossEntropyFusion::native,
        "--cross-entropy-fusion-impl", "--cross-entropy-loss-fusion");
  needs(t.mtp.mtp_num_layers > 0 ||
            t.mtp.mtp_loss_scaling_factor == defaults.mtp.mtp_loss_scaling_factor,
        "--mtp-loss-scaling-factor", "--mtp-num-layers");
  needs(t.params_dtype == at::kBFloat16 || !t.fp32_residual_connection,
        "--fp32-residual-connection", "--bf16");
  const OptimizerConfig& optimizer = options.optimizer;
  needs(optimizer.weight_decay != 0 || !optimizer.apply_wd_to_1d_parameters,
        "--apply-wd-to-1d-parameters", "--weight-decay above 0");
  needs(optimizer.lr_decay_style != LrDecayStyle::constant || !optimizer.lr_decay_iters,
        "--lr-decay-iters", "a --lr-decay-style that decays");
}

}  // namespace megatron
