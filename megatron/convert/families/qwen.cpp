// Qwen2 (and 2.5), with biases of query, key and value, and Qwen3, with norms of query and key.
#include "megatron/base/error.h"
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

using nlohmann::json;

// With use_sliding_window, the layers from max_window_layers on have the window, unless layer_types
// says which.
void qwen_window(HfConfig& hf, TransformerConfig& t) {
  if (!hf.reads()) {
    const bool has_window = !t.window_size.empty();
    hf.put("use_sliding_window", has_window);
    hf.put("sliding_window", has_window ? json(t.window_size.at(0) + 1) : json());
    if (has_window) hf.put("max_window_layers", 0);
    return layer_types(hf, t);
  }
  bool uses = false;
  int64_t window = 4096, first = 28;
  hf.field("use_sliding_window", uses, false);
  uses &= !hf.json().contains("sliding_window") || hf.has("sliding_window");  // null: none
  hf.field("sliding_window", window, 4096);
  hf.field("max_window_layers", first, 28);
  if (!uses) {
    const json types = hf.take("layer_types");
    for (const json& type : types.is_array() ? types : json::array()) {
      check(type == "full_attention",
            "Expected 'use_sliding_window' with '{}' in 'layer_types' of {}, but got none",
            type.is_string() ? type.get<std::string>() : type.dump(), hf.path());
    }
    return;
  }
  check(window > 0, "Expected 'sliding_window' above 0 in {}, but got {}", hf.path(), window);
  if (!hf.has("layer_types")) {
    hf.ignore({"layer_types"});
    if (first >= t.num_layers) return;
    t.window_size = {window - 1, 0};
    if (first <= 0) return;
    for (int64_t layer = 0; layer < t.num_layers; ++layer)
      t.window_attn_skip_freq.push_back(layer >= first ? 1 : 0);
    return;
  }
  t.window_size = {window - 1, 0};
  layer_types(hf, t);
}

void configure_qwen(HfConfig& hf, GPTModelConfig& model) {
  decoder_sizes(hf, model, {.key_value_heads = 32});
  rotary(hf, model);
  activation_or(hf, "hidden_act", model.transformer, ActivationFunction::silu);
  hf.field("rms_norm_eps", model.transformer.layernorm_epsilon, 1e-6);
  qwen_window(hf, model.transformer);
}

void configure_qwen2(HfConfig& hf, GPTModelConfig& model) {
  configure_qwen(hf, model);
  model.transformer.add_qkv_bias = true;
}

void configure_qwen3(HfConfig& hf, GPTModelConfig& model) {
  configure_qwen(hf, model);
  TransformerConfig& t = model.transformer;
  default_head_dim(hf, t, 128);
  LinearBiases biases = linear_biases(t);
  hf.field("attention_bias", biases.qkv, false);
  biases.proj = biases.qkv;
  biases.mlp = false;
  set_linear_biases(t, biases);
  t.qk_layernorm = true;
}

}  // namespace

HfFamily qwen2_family() {
  return {.model_type = "qwen2",
          .architecture = "Qwen2ForCausalLM",
          .configure = configure_qwen2,
          .rows = llama_rows()};
}

HfFamily qwen3_family() {
  const std::string ours = "decoder.layers.*.self_attention.";
  const std::string theirs = "model.layers.*.self_attn.";
  return {.model_type = "qwen3",
          .architecture = "Qwen3ForCausalLM",
          .configure = configure_qwen3,
          .rows = with_rows(llama_rows(),
                            {{ours + "q_layernorm.weight", {theirs + "q_norm.weight"}, same},
                             {ours + "k_layernorm.weight", {theirs + "k_norm.weight"}, same}})};
}

}  // namespace megatron
