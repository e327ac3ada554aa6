// Cohere (Command R) and Cohere 2 (Command R7B, A): attention and MLP in parallel from one LayerNorm
// without bias, neighbouring pairs rotate, logits are scaled. Cohere normalizes queries and keys with
// weights of each head; Cohere 2 has windows, and no rotary positions in the other layers.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_cohere_layers(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model, {.tied = true});
  if (hf.reads()) {
    t.normalization = Normalization::LayerNorm;
    t.layernorm_bias = false;
    t.use_parallel_residual = t.share_parallel_layernorm = true;
    t.rotary_interleaved = true;
  }
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("layer_norm_eps", t.layernorm_epsilon, 1e-5);
  hf.field("logit_scale", t.logit_multiplier, 0.0625);
  attention_bias(hf, t);
}

void configure_cohere(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  configure_cohere_layers(hf, model);
  rotary(hf, model, 500000);
  hf.field("use_qk_norm", t.qk_layernorm, false);
  if (hf.reads() && t.qk_layernorm) t.qk_layernorm_scope = QkNormScope::per_head;
}

void configure_cohere2(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  configure_cohere_layers(hf, model);
  rotary(hf, model, 10000);
  alternating_windows(hf, t, /*absent=*/4096, /*default_pattern=*/4);
  if (hf.reads()) no_rope_without_window(t);
  hf.only("use_qk_norm", false, "Cohere 2 has no norms of query and key");
  hf.ignore({"cache_implementation", "order_of_interleaved_layers", "position_embedding_type",
             "rotary_pct", "use_embedding_sharing", "use_gated_activation", "use_parallel_block",
             "use_parallel_embedding"});
}

std::vector<TensorRow> cohere_rows() {
  return with_rows(llama_rows(), {{"decoder.layers.*.input_layernorm.weight",
                                   {"model.layers.*.input_layernorm.weight"},
                                   same}});
}

}  // namespace

HfFamily cohere_family() {
  return {.model_type = "cohere",
          .architecture = "CohereForCausalLM",
          .configure = configure_cohere,
          .rows = with_rows(cohere_rows(), query_key_norm_rows())};
}

HfFamily cohere2_family() {
  return {.model_type = "cohere2",
          .architecture = "Cohere2ForCausalLM",
          .configure = configure_cohere2,
          .rows = cohere_rows()};
}

}  // namespace megatron
