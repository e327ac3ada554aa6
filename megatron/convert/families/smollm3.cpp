// SmolLM3: Llama with layers without rotary positions.
#include "megatron/base/error.h"
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

using nlohmann::json;

// no_rope_layers: 1 for a layer with rotary positions, 0 without; else every
// no_rope_layer_interval-th layer is without.
void rope_layers(HfConfig& hf, TransformerConfig& t) {
  if (!hf.reads()) {
    json layers = json::array();
    for (int64_t layer = 1; layer <= t.num_layers; ++layer)
      layers.push_back(t.has_rope(layer) ? 1 : 0);
    return hf.put("no_rope_layers", layers);
  }
  int64_t interval = 4;
  hf.field("no_rope_layer_interval", interval, 4);
  check(interval > 0, "Expected 'no_rope_layer_interval' above 0 in {}, but got {}", hf.path(),
        interval);
  const json layers = hf.take("no_rope_layers");
  check(layers.is_null() || (layers.is_array() && int64_t(layers.size()) == t.num_layers),
        "Expected 'no_rope_layers' of {} entries in {}, but got {}", t.num_layers, hf.path(),
        layers.dump());
  bool any = false;
  for (int64_t layer = 0; layer < t.num_layers; ++layer) {
    const json entry =
        layers.is_null() ? json((layer + 1) % interval != 0 ? 1 : 0) : layers.at(layer);
    check(entry == 0 || entry == 1, "Expected 0 or 1 in 'no_rope_layers' of {}, but got {}",
          hf.path(), entry.dump());
    t.no_rope_freq.push_back(entry == 0 ? 1 : 0);
    any |= entry == 0;
  }
  if (!any) t.no_rope_freq.clear();
}

// With use_sliding_window, the layers without rotary positions have the window, unless layer_types
// says which.
void windows(HfConfig& hf, TransformerConfig& t) {
  bool uses = !t.window_size.empty();
  hf.field("use_sliding_window", uses, false);
  if (hf.reads() && !uses) {
    hf.ignore({"sliding_window"});
    // transformers' attention kernels disagree about windows that only layer_types asks for.
    const json types = hf.take("layer_types");
    for (const json& type : types.is_array() ? types : json::array()) {
      check(type == "full_attention",
            "Expected 'use_sliding_window' with {} in 'layer_types' of {}, but got false",
            type.dump(), hf.path());
    }
    return;
  }
  sliding_window(hf, t);
  if (!hf.reads() || hf.has("layer_types") || t.window_size.empty()) return;
  if (t.no_rope_freq.empty()) {
    t.window_size.clear();
  } else {
    t.window_attn_skip_freq = t.no_rope_freq;
  }
}

void configure_smollm3(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model, {.tied = true, .key_value_heads = 4});
  rotary(hf, model, 2000000);
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-6);
  attention_and_mlp_bias(hf, t);
  rope_layers(hf, t);
  windows(hf, t);
  hf.ignore({"max_window_layers"});
}

}  // namespace

HfFamily smollm3_family() {
  return {.model_type = "smollm3",
          .architecture = "SmolLM3ForCausalLM",
          .configure = configure_smollm3,
          .rows = llama_rows()};
}

}  // namespace megatron
