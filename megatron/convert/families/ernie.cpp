// ERNIE 4.5: Llama whose heads rotate in neighbouring pairs.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_ernie4_5(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model, {.tied = true, .key_value_heads = 2});
  default_head_dim(hf, t, 128);
  if (hf.reads()) t.rotary_interleaved = true;
  rotary(hf, model, 500000);
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-5);
  hf.only("compression_ratio", 1.0, "compressed positions are not supported");
  bool biases = linear_biases(t).mlp;
  hf.field("use_bias", biases, false);
  set_linear_biases(t, {biases, biases, biases});
}

}  // namespace

HfFamily ernie4_5_family() {
  return {.model_type = "ernie4_5",
          .architecture = "Ernie4_5ForCausalLM",
          .configure = configure_ernie4_5,
          .rows = llama_rows()};
}

}  // namespace megatron
