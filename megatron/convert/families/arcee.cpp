// Arcee (AFM): Llama with a squared ReLU that is not gated.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_arcee(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  if (hf.reads()) t.gated_linear_unit = false;
  decoder_sizes(hf, model);
  rotary(hf, model);
  activation_or(hf, "hidden_act", t, ActivationFunction::squared_relu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-5);
  LinearBiases biases = linear_biases(t);
  hf.field("attention_bias", biases.qkv, false);
  hf.field("mlp_bias", biases.mlp, false);
  biases.proj = biases.qkv;
  set_linear_biases(t, biases);
}

}  // namespace

HfFamily arcee_family() {
  const std::string ours = "decoder.layers.*.mlp.", theirs = "model.layers.*.mlp.";
  return {.model_type = "arcee",
          .architecture = "ArceeForCausalLM",
          .configure = configure_arcee,
          .rows = with_rows(llama_rows(),
                            {{ours + "linear_fc1.weight", {theirs + "up_proj.weight"}, same},
                             {ours + "linear_fc1.bias", {theirs + "up_proj.bias"}, same}})};
}

}  // namespace megatron
