// Seed-OSS: Llama with biases of query, key and value.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_seed_oss(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model, {.key_value_heads = 8, .attention_dropout = 0.1});
  default_head_dim(hf, t, 128);
  rotary(hf, model);
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-6);
  LinearBiases biases = linear_biases(t);
  hf.field("attention_bias", biases.qkv, true);
  hf.field("attention_out_bias", biases.proj, false);
  hf.field("mlp_bias", biases.mlp, false);
  set_linear_biases(t, biases);
  hf.field("residual_dropout", t.hidden_dropout, 0.1);
}

}  // namespace

HfFamily seed_oss_family() {
  return {.model_type = "seed_oss",
          .architecture = "SeedOssForCausalLM",
          .configure = configure_seed_oss,
          .rows = llama_rows()};
}

}  // namespace megatron
