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
  attention_and_mlp_bias(hf, t);
}

}  // namespace

HfFamily nemotron_family() {
  return {.model_type = "nemotron",
          .architecture = "NemotronForCausalLM",
          .configure = configure_nemotron,
          .rows = ungated_llama_rows()};
}

}  // namespace megatron
