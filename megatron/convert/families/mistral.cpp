// Mistral 7B and its successors.
#include "megatron/base/error.h"
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

// All layers have the window. transformers takes 4096 where the key is missing, and none for null.
void mistral_window(HfConfig& hf, TransformerConfig& t) {
  if (hf.reads() && !hf.json().contains("sliding_window")) {
    t.window_size = {4095, 0};
    return layer_types(hf, t);
  }
  sliding_window(hf, t);
}

void configure_mistral(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model, {.key_value_heads = 8});
  rotary(hf, model);
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-6);
  mistral_window(hf, t);
  check(t.window_attn_skip_freq.empty(),
        "Expected one kind of layer in 'layer_types' of {}, but got several, which transformers' "
        "Mistral does not have",
        hf.path());
}

}  // namespace

HfFamily mistral_family() {
  return {.model_type = "mistral",
          .architecture = "MistralForCausalLM",
          .configure = configure_mistral,
          .rows = llama_rows()};
}

}  // namespace megatron
