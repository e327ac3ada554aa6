// Nemotron (Minitron): LayerNorms that scale by 1 + weight, squared ReLU, not gated, half of a head
// rotates.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_nemotron(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model);
  if (hf.reads()) {
    t.normalization = Normalization::LayerNorm;
    t.layernorm_zero_centered_gamma = true;
    t.gated_linear_unit = false;
  }
  rotary(hf, model, 10000, /*default_partial=*/0.5);
  activation_or(hf, "hidden_act", t, ActivationFunction::squared_relu);
  hf.field("norm_eps", t.layernorm_epsilon, 1e-5);
  LinearBiases biases = linear_biases(t);
  hf.field("attention_bias", biases.qkv, false);
  hf.field("mlp_bias", biases.mlp, false);
  biases.proj = biases.qkv;
  set_linear_biases(t, biases);
}

}  // namespace

HfFamily nemotron_family() {
  const std::string ours = "decoder.layers.*.mlp.linear_fc1.", theirs = "model.layers.*.mlp.";
  return {.model_type = "nemotron",
          .architecture = "NemotronForCausalLM",
          .configure = configure_nemotron,
          .rows = with_rows(llama_rows(), {{ours + "weight", {theirs + "up_proj.weight"}, same},
                                           {ours + "bias", {theirs + "up_proj.bias"}, same}})};
}

}  // namespace megatron
