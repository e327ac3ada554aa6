// GLM-4: norms around the branches, gate and up in one tensor, half of a head rotates in neighbouring
// pairs.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_glm4(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model, {.key_value_heads = 2});
  default_head_dim(hf, t, 128);
  if (hf.reads()) {
    t.norm_placement = NormPlacement::around;
    t.rotary_interleaved = true;
  }
  rotary(hf, model, 10000, /*default_partial=*/0.5);
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1.5625e-7);
  LinearBiases biases = linear_biases(t);
  hf.field("attention_bias", biases.qkv, true);
  set_linear_biases(t, biases);
}

}  // namespace

HfFamily glm4_family() {
  const std::string ours = "decoder.layers.*.", theirs = "model.layers.*.";
  return {.model_type = "glm4",
          .architecture = "Glm4ForCausalLM",
          .configure = configure_glm4,
          .rows = with_rows(
              llama_rows(),
              {{ours + "mlp.linear_fc1.weight", {theirs + "mlp.gate_up_proj.weight"}, same},
               {ours + "self_attention.linear_proj.post_layernorm.weight",
                {theirs + "post_self_attn_layernorm.weight"},
                same},
               {ours + "mlp.linear_fc2.post_layernorm.weight",
                {theirs + "post_mlp_layernorm.weight"},
                same}})};
}

}  // namespace megatron
