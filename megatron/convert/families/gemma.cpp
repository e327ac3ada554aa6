// Gemma 1, 2 and 3 (text): scaled embeddings, norms that scale by 1 + weight, GELU in tanh form.
// Gemma 2 adds norms after the branches, soft caps and windows, Gemma 3 norms of query and key and a
// rotary base of the layers with a window.
#include <cmath>

#include "megatron/base/error.h"
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_gemma_layers(HfConfig& hf, GPTModelConfig& model, int64_t key_value_heads) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model, {.tied = true, .key_value_heads = key_value_heads});
  default_head_dim(hf, t, 256);
  if (hf.reads()) {
    t.layernorm_zero_centered_gamma = true;
    t.embedding_multiplier = std::sqrt(double(t.hidden_size));
  }
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-6);
  attention_bias(hf, t);
  hf.only("use_bidirectional_attention", false, "attention to later tokens is not a GPT's");
}

// The scale of the scores is 1 / sqrt(query_pre_attn_scalar).
void query_scale(HfConfig& hf, TransformerConfig& t) {
  int64_t scalar = t.head_dim();
  if (!hf.reads() && t.softmax_scale)
    scalar = std::llround(1 / (*t.softmax_scale * *t.softmax_scale));
  hf.field("query_pre_attn_scalar", scalar, 256);
  check(scalar > 0, "Expected 'query_pre_attn_scalar' above 0 in {}, but got {}", hf.path(),
        scalar);
  if (hf.reads()) t.softmax_scale = 1 / std::sqrt(double(scalar));
}

// Of Gemma 1, whose first configurations call the tanh form gelu.
void configure_gemma(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  configure_gemma_layers(hf, model, /*key_value_heads=*/16);
  rotary(hf, model);
  const auto tanh_form = ActivationFunction::openai_gelu;
  if (!hf.reads()) {
    activation(hf, "hidden_act", t);
    return activation(hf, "hidden_activation", t);
  }
  const bool is_renamed = hf.has("hidden_activation");
  activation_or(hf, is_renamed ? "hidden_activation" : "hidden_act", t, tanh_form);
  if (t.activation_func == ActivationFunction::gelu) t.activation_func = tanh_form;
  hf.ignore({"hidden_act", "hidden_activation"});
}

void configure_gemma2(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  configure_gemma_layers(hf, model, /*key_value_heads=*/4);
  if (hf.reads()) t.norm_placement = NormPlacement::around;
  activation_or(hf, "hidden_activation", t, ActivationFunction::openai_gelu);
  hf.ignore({"hidden_act", "sliding_window_size"});
  query_scale(hf, t);
  soft_cap(hf, "attn_logit_softcapping", t.attn_logit_softcapping, 50);
  soft_cap(hf, "final_logit_softcapping", t.final_logit_softcapping, 30);
  alternating_windows(hf, t, /*absent=*/4096, /*default_pattern=*/2);
  rotary(hf, model);
}

void configure_gemma3(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  configure_gemma_layers(hf, model, /*key_value_heads=*/4);
  if (hf.reads()) {
    t.norm_placement = NormPlacement::around;
    t.qk_layernorm = true;
  }
  activation_or(hf, "hidden_activation", t, ActivationFunction::openai_gelu);
  hf.ignore({"hidden_act"});
  query_scale(hf, t);
  hf.only("attn_logit_softcapping", nullptr,
          "transformers does not cap the scores of Gemma 3, whatever the key says");
  soft_cap(hf, "final_logit_softcapping", t.final_logit_softcapping, {});
  alternating_windows(hf, t, /*absent=*/4096, /*default_pattern=*/6);
  rotary_by_layer_type(hf, model, 1000000, 10000);
}

std::vector<TensorRow> gemma2_rows() {
  const std::string ours = "decoder.layers.*.", theirs = "model.layers.*.";
  return with_rows(llama_rows(), {{ours + "self_attention.linear_proj.post_layernorm.weight",
                                   {theirs + "post_attention_layernorm.weight"},
                                   same},
                                  {ours + "mlp.linear_fc1.layer_norm_weight",
                                   {theirs + "pre_feedforward_layernorm.weight"},
                                   same},
                                  {ours + "mlp.linear_fc2.post_layernorm.weight",
                                   {theirs + "post_feedforward_layernorm.weight"},
                                   same}});
}

}  // namespace

HfFamily gemma_family() {
  return {.model_type = "gemma",
          .architecture = "GemmaForCausalLM",
          .configure = configure_gemma,
          .rows = llama_rows()};
}

HfFamily gemma2_family() {
  return {.model_type = "gemma2",
          .architecture = "Gemma2ForCausalLM",
          .configure = configure_gemma2,
          .rows = gemma2_rows()};
}

HfFamily gemma3_family() {
  return {.model_type = "gemma3_text",
          .architecture = "Gemma3ForCausalLM",
          .configure = configure_gemma3,
          .rows = with_rows(gemma2_rows(), query_key_norm_rows())};
}

}  // namespace megatron
