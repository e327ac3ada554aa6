// Llama 2 and 3.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_llama(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model);
  rotary(hf, model);
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-6);
  attention_and_mlp_bias(hf, t);
}

}  // namespace

HfFamily llama_family() {
  return {.model_type = "llama",
          .architecture = "LlamaForCausalLM",
          .configure = configure_llama,
          .rows = llama_rows(),
          .buffers = {"model.layers.*.self_attn.rotary_emb.inv_freq"}};
}

}  // namespace megatron
