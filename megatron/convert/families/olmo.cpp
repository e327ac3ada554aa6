// OLMo 2 and 3: norms of the branches' outputs only, norms of queries and keys over all heads. OLMo 3
// has windows, and scales the rotary frequencies of its other layers only.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_olmo_layers(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model);
  if (hf.reads()) {
    t.norm_placement = NormPlacement::after;
    t.qk_layernorm = true;
    t.qk_layernorm_scope = QkNormScope::projection;
  }
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-5);
  attention_bias(hf, t);
}

void configure_olmo2(HfConfig& hf, GPTModelConfig& model) {
  configure_olmo_layers(hf, model);
  rotary(hf, model);
}

void configure_olmo3(HfConfig& hf, GPTModelConfig& model) {
  configure_olmo_layers(hf, model);
  alternating_windows(hf, model.transformer, /*absent=*/4096, /*default_pattern=*/4);
  rotary_by_layer_type(hf, model, 500000, /*default_local_theta=*/0);
}

std::vector<TensorRow> olmo_rows() {
  return with_rows(with_rows(llama_rows(), norm_after_rows()), query_key_norm_rows());
}

}  // namespace

HfFamily olmo2_family() {
  return {.model_type = "olmo2",
          .architecture = "Olmo2ForCausalLM",
          .configure = configure_olmo2,
          .rows = olmo_rows()};
}

HfFamily olmo3_family() {
  return {.model_type = "olmo3",
          .architecture = "Olmo3ForCausalLM",
          .configure = configure_olmo3,
          .rows = olmo_rows()};
}

}  // namespace megatron
