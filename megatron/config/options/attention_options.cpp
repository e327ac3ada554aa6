// The table's part about attention: scores, masks, normalised queries and keys, latent attention.
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
  group.add(&T::add_qkv_bias,
            {.flag = "add-qkv-bias", .help = "A bias in the query-key-value projection only"});
  group.add(&T::softmax_scale, {.flag = "softmax-scale",
                                .help = "Factor on the attention scores",
                                .unit = "factor",
                                .otherwise = "1 / sqrt(head width)"});
  group.add(&T::apply_query_key_layer_scaling,
            {.flag = "apply-query-key-layer-scaling",
             .help = "Divide queries times keys by the layer's number, and multiply inside the "
                     "softmax; both cancel here, where scores have the range of fp32"});
  group.add(&T::softmax_type,
            {.flag = "softmax-type",
             .help = "Denominator of the softmax: the keys; one more (off-by-one); "
                     "a learnable sink for each head"});
  group.add(&T::window_size,
            {.flag = "window-size",
             .help = "Keys that a query sees to its left and right, itself not counted; -1 is "
                     "without bound",
             .unit = "tokens",
             .otherwise = "all"});
  group.add(&T::window_attn_skip_freq,
            {.flag = "window-attn-skip-freq",
             .help = "Every such layer sees everything; or a 1 (window) or 0 by layer",
             .unit = "layers",
             .otherwise = "no layer"});
  group.add(&T::qk_layernorm, {.flag = "qk-layernorm",
                               .help = "Normalise each head's queries and keys, with weights"});
  group.add(&T::qk_l2_norm, {.flag = "qk-l2-norm",
                             .help = "Normalise each head's queries and keys, without weights"});
  group.add(&T::attention_output_gate,
            {.flag = "attention-output-gate",
             .help = "Multiply what attention gives with the sigmoid of a projection"});

  const auto run = table.group("Attention", kRunCommands, &attention_of);
  run.add(&T::attention_backend,
          {.flag = "attention-backend",
           .help = "auto picks the fastest that can do what is asked; flash and fused never hold "
                   "all scores, unfused and local do"});
  const auto clip = table.group("Attention", kModelCommands, &attention_of);
  clip.add(
      &T::qk_clip,
      {.flag = "qk-clip",
       .help = "Stop with an error where an attention score passes the threshold; shrinking the "
               "weights instead is not in this version"});
  clip.add(&T::qk_clip_threshold,
           {.flag = "qk-clip-threshold", .help = "That threshold", .unit = "score"});
  clip.add(&T::qk_clip_alpha, {.flag = "qk-clip-alpha",
                               .help = "Share of the shrinking that queries take; only 0.5 works",
                               .unit = "exponent"});
}

void add_latent_attention(OptionTable& table) {
  using M = MultiLatentAttentionConfig;
  const char* section = "Multi-latent attention";
  const auto group = table.group(section, kModelCommands, &mla_of, {.architecture = true});
  group.add(&M::multi_latent_attention,
            {.flag = "multi-latent-attention",
             .help = "Keys and values from a shared low-rank latent (MLA)"});
  group.add(&M::q_lora_rank, {.flag = "q-lora-rank",
                              .help = "Rank of the queries' latent",
                              .unit = "features",
                              .otherwise = "queries have none"});
  group.add(&M::kv_lora_rank, {.flag = "kv-lora-rank",
                               .help = "Rank of the latent of keys and values",
                               .unit = "features"});
  group.add(
      &M::qk_head_dim,
      {.flag = "qk-head-dim", .help = "A head's features without positions", .unit = "features"});
  group.add(&M::qk_pos_emb_head_dim,
            {.flag = "qk-pos-emb-head-dim",
             .help = "A head's rotated features; all heads share their key",
             .unit = "features"});
  group.add(&M::v_head_dim,
            {.flag = "v-head-dim", .help = "A head's features of values", .unit = "features"});
  group.add(&M::rope_type, {.flag = "rope-type", .help = "Rotary frequencies: plain or YaRN's"});
  const auto decode = table.group(section, commands(Command::generate), &mla_of);
  decode.add(&M::cache_mla_latents,
             {.flag = "cache-mla-latents",
              .help = "Decode from the cached latents instead of keys and values"});
  add_yarn_options(table, section, &mla_yarn_of, "");
}

}  // namespace

void add_attention_options(OptionTable& table) {
  add_attention(table);
  add_latent_attention(table);
}

}  // namespace megatron
