// Options of attention and multi-latent attention.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

TransformerConfig& attention_of(Options& options) {
  return options.model.transformer;
}
MultiLatentAttentionConfig& mla_of(Options& options) {
  return options.model.transformer.mla;
}
YarnConfig& mla_yarn_of(Options& options) {
  return options.model.transformer.mla.yarn;
}

void add_attention(OptionTable& table) {
  using T = TransformerConfig;
  const auto group =
      table.group("Attention", kModelCommands, &attention_of, {.architecture = true});
  group.add(&T::add_qkv_bias, {.flag = "add-qkv-bias", .help = "Bias in the QKV projection only"});
  group.add(&T::softmax_scale, {.flag = "softmax-scale",
                                .help = "Scale of the attention scores",
                                .unit = "factor",
                                .otherwise = "1 / sqrt(head dimension)"});
  group.add(&T::attn_logit_softcapping,
            {.flag = "attn-logit-softcapping",
             .help = "Soft cap of the attention scores: cap * tanh(score / cap)",
             .unit = "absolute",
             .otherwise = "not capped"});
  group.add(
      &T::apply_query_key_layer_scaling,
      {.flag = "apply-query-key-layer-scaling",
       .help = "Divide attention scores by the layer number, and multiply them by it inside the "
               "softmax; changes rounding only, and only in the unfused backends, the others keep "
               "scores in fp32"});
  group.add(
      &T::softmax_type,
      {.flag = "softmax-type",
       .help =
           "Softmax denominator: the keys (vanilla), plus one (off-by-one), or plus a learnable "
           "sink per head"});
  group.add(
      &T::window_size,
      {.flag = "window-size",
       .help =
           "Sliding window: keys to the left and right of the query that it sees, without itself; "
           "-1 for no bound",
       .unit = "tokens",
       .otherwise = "full attention",
       .extends_context = true});
  group.add(
      &T::window_attn_skip_freq,
      {.flag = "window-attn-skip-freq",
       .help =
           "Layers with full attention: every Nth; or one entry per layer, 1 (window) or 0 (full)",
       .unit = "layers",
       .otherwise = "all layers have the window",
       .extends_context = true});
  group.add(&T::qk_layernorm,
            {.flag = "qk-layernorm", .help = "Normalize queries and keys, with weights"});
  group.add(&T::qk_layernorm_scope,
            {.flag = "qk-layernorm-scope",
             .help = "What --qk-layernorm normalizes: each head, with weights that all heads share "
                     "(head) or with its own (per_head, as Cohere); or all heads as one vector "
                     "(projection, as OLMo 2)"});
  group.add(&T::qk_l2_norm,
            {.flag = "qk-l2-norm", .help = "Normalize queries and keys per head, without weights"});
  group.add(&T::attention_output_gate,
            {.flag = "attention-output-gate",
             .help = "Multiply the attention output by the sigmoid of a projection"});

  const auto run = table.group("Attention", kRunCommands, &attention_of);
  run.add(
      &T::attention_backend,
      {.flag = "attention-backend",
       .help =
           "Attention implementation; auto selects the fastest that supports the model. flash and "
           "fused do not materialize the scores; unfused and local do"});
  const auto clip = table.group("Attention", kModelCommands, &attention_of);
  clip.add(
      &T::qk_clip,
      {.flag = "qk-clip",
       .help = "Fail if an attention score exceeds the threshold; rescaling the weights is not "
               "supported in this version"});
  clip.add(&T::qk_clip_threshold,
           {.flag = "qk-clip-threshold", .help = "Threshold of --qk-clip", .unit = "score"});
  clip.add(&T::qk_clip_alpha, {.flag = "qk-clip-alpha",
                               .help = "Exponent of the rescaling of queries; only 0.5 works",
                               .unit = "exponent"});
}

void add_latent_attention(OptionTable& table) {
  using M = MultiLatentAttentionConfig;
  const char* section = "Multi-latent attention";
  const auto group = table.group(section, kModelCommands, &mla_of, {.architecture = true});
  group.add(
      &M::multi_latent_attention,
      {.flag = "multi-latent-attention",
       .help = "Multi-latent attention (MLA): keys and values from a shared low-rank latent"});
  group.add(&M::q_lora_rank, {.flag = "q-lora-rank",
                              .help = "Rank of the query latent",
                              .unit = "features",
                              .otherwise = "queries are not compressed"});
  group.add(&M::kv_lora_rank,
            {.flag = "kv-lora-rank", .help = "Rank of the key-value latent", .unit = "features"});
  group.add(&M::qk_head_dim, {.flag = "qk-head-dim",
                              .help = "Head dimension of queries and keys without positions",
                              .unit = "features"});
  group.add(&M::qk_pos_emb_head_dim,
            {.flag = "qk-pos-emb-head-dim",
             .help = "Rotary head dimension of queries and keys; all heads share the rotary key",
             .unit = "features"});
  group.add(&M::v_head_dim,
            {.flag = "v-head-dim", .help = "Head dimension of values", .unit = "features"});
  group.add(&M::rope_type,
            {.flag = "rope-type", .help = "Rotary frequencies of MLA", .extends_context = true});
  const auto decode = table.group(section, kEngineCommands, &mla_of);
  decode.add(&M::cache_mla_latents,
             {.flag = "cache-mla-latents",
              .help = "Cache latents instead of keys and values while decoding"});
  add_yarn_options(table, section, &mla_yarn_of, "");
}

}  // namespace

void add_attention_options(OptionTable& table) {
  add_attention(table);
  add_latent_attention(table);
}

}  // namespace megatron
