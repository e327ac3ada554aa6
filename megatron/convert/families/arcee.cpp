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
  attention_and_mlp_bias(hf, t);
}

}  // namespace

HfFamily arcee_family() {
  return {.model_type = "arcee",
          .architecture = "ArceeForCausalLM",
          .configure = configure_arcee,
          .rows = ungated_llama_rows()};
}

}  // namespace megatron
