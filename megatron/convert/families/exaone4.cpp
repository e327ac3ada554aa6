// EXAONE 4: norms of the branches' outputs only, norms of query and key, and, with windows, rotary
// positions in the layers with a window only.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_exaone4(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model, {.key_value_heads = 32});
  if (hf.reads()) {
    t.norm_placement = NormPlacement::after;
    t.qk_layernorm = true;
  }
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-5);
  rotary(hf, model);
  const bool has_windows = !hf.json().contains("sliding_window") || hf.has("sliding_window");
  alternating_windows(hf, t, /*absent=*/4096, /*default_pattern=*/4);
  if (hf.reads() && has_windows) no_rope_without_window(t);
}

}  // namespace

HfFamily exaone4_family() {
  return {.model_type = "exaone4",
          .architecture = "Exaone4ForCausalLM",
          .configure = configure_exaone4,
          .rows = with_rows(with_rows(llama_rows(), norm_after_rows()), query_key_norm_rows())};
}

}  // namespace megatron
