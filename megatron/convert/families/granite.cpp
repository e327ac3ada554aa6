// Granite 3: Llama with multipliers of the embedding, the branches, the scores and the logits.
#include <cmath>

#include "megatron/base/error.h"
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

// 1 / value; where a whole number has that reciprocal, the number.
double exact_reciprocal(double value) {
  const double inverse = 1 / value, whole = std::round(inverse);
  return 1 / whole == value ? whole : inverse;
}

void configure_granite(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model);
  rotary(hf, model);
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-6);
  attention_and_mlp_bias(hf, t);
  hf.field("embedding_multiplier", t.embedding_multiplier, 1);
  hf.field("residual_multiplier", t.residual_multiplier, 1);
  double scale = t.softmax_scale.value_or(1 / std::sqrt(double(t.head_dim())));
  hf.field("attention_multiplier", scale, 1);
  double divisor = exact_reciprocal(t.logit_multiplier);
  hf.field("logits_scaling", divisor, 1);
  check(divisor != 0, "Expected 'logits_scaling' other than 0 in {}, but got 0", hf.path());
  if (!hf.reads()) return;
  t.softmax_scale = scale;
  t.logit_multiplier = 1 / divisor;
}

}  // namespace

HfFamily granite_family() {
  return {.model_type = "granite",
          .architecture = "GraniteForCausalLM",
          .configure = configure_granite,
          .rows = llama_rows()};
}

}  // namespace megatron
