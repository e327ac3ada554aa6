#include "megatron/convert/families/decoder.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using nlohmann::json;

constexpr int64_t kLongest = int64_t{1} << 30;  // positions
constexpr char kOriginalLength[] = "original_max_position_embeddings";

double number(const json& rope, const char* key, double absent) {
  if (!rope.contains(key) || rope[key].is_null()) return absent;
  check(rope[key].is_number(), "Expected a number for '{}' of the rotary parameters, but got {}",
        key, rope[key].dump());
  return rope[key].get<double>();
}

double required_number(const json& rope, const char* key) {
  check(rope.contains(key) && rope[key].is_number(),
        "Expected a number for '{}' of rotary parameters of type '{}', but got {}", key,
        rope["rope_type"].get<std::string>(), rope.contains(key) ? rope[key].dump() : "none");
  return rope[key].get<double>();
}

// A number of positions.
int64_t whole_length(double value, const char* key) {
  check(value >= 1 && value <= double(kLongest),
        "Expected '{}' of the rotary parameters between 1 and {}, but got {}", key, kLongest,
        value);
  return static_cast<int64_t>(value);
}

void check_rope_keys(const json& rope, std::set<std::string> known) {
  known.insert({"rope_type", "rope_theta", "partial_rotary_factor"});
  for (const auto& [key, value] : rope.items()) {
    check(
        known.contains(key),
        "Expected the rotary parameters of type '{}', but got '{}' ({}), which that type does not "
        "have here",
        rope["rope_type"].get<std::string>(), key, value.dump());
  }
}

void read_yarn(const json& rope, GPTModelConfig& model) {
  check_rope_keys(rope, {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow",
                         "mscale", "mscale_all_dim", "attention_factor", "truncate"});
  model.position_embedding_type = PositionEmbeddingType::yarn;
  YarnConfig& yarn = model.transformer.yarn;
  const auto original =
      number(rope, "original_max_position_embeddings", double(model.max_sequence_length()));
  yarn.original_max_position_embeddings = whole_length(original, kOriginalLength);
  yarn.rotary_scaling_factor =
      number(rope, "factor", double(model.max_sequence_length()) / original);
  yarn.beta_fast = number(rope, "beta_fast", 32);
  yarn.beta_slow = number(rope, "beta_slow", 1);
  yarn.correction_range_round_to_int = !rope.contains("truncate") || rope["truncate"] != false;
  const double mscale = number(rope, "mscale", 0), all_dim = number(rope, "mscale_all_dim", 0);
  yarn.mscale = mscale != 0 && all_dim != 0 ? mscale : 1;
  yarn.mscale_all_dim = mscale != 0 && all_dim != 0 ? all_dim : 0;
  if (rope.contains("attention_factor") && !rope["attention_factor"].is_null()) {
    const double scale = required_number(rope, "attention_factor");
    check(yarn.rotary_scaling_factor > 1 || scale == 1,
          "Expected a 'factor' above 1 with 'attention_factor' {}, but got {}", scale,
          yarn.rotary_scaling_factor);
    yarn.mscale = yarn.rotary_scaling_factor > 1
                      ? (scale - 1) / (0.1 * std::log(yarn.rotary_scaling_factor))
                      : 1;
    yarn.mscale_all_dim = 0;
  }
}

json write_yarn(const YarnConfig& yarn) {
  json rope = {{"rope_type", "yarn"},
               {"factor", yarn.rotary_scaling_factor},
               {"original_max_position_embeddings", yarn.original_max_position_embeddings},
               {"beta_fast", yarn.beta_fast},
               {"beta_slow", yarn.beta_slow}};
  if (!yarn.correction_range_round_to_int) rope["truncate"] = false;
  if (yarn.mscale_all_dim != 0) {
    rope["mscale"] = yarn.mscale;
    rope["mscale_all_dim"] = yarn.mscale_all_dim;
  } else if (yarn.mscale != 1) {
    rope["attention_factor"] = 0.1 * yarn.mscale * std::log(yarn.rotary_scaling_factor) + 1;
  }
  return rope;
}

std::vector<double> factors(const json& rope, const char* key) {
  check(rope.contains(key) && rope[key].is_array(),
        "Expected a list for '{}' of rotary parameters of type longrope, but got {}", key,
        rope.contains(key) ? rope[key].dump() : "none");
  std::vector<double> list;
  for (const json& factor : rope[key]) {
    check(factor.is_number(), "Expected numbers in '{}' of the rotary parameters, but got {}", key,
          factor.dump());
    // transformers keeps them in fp32.
    list.push_back(static_cast<float>(factor.get<double>()));
  }
  return list;
}

// Of cosine and sine, where the configuration does not give it.
double longrope_scale(double factor, double original) {
  return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
}

double default_longrope_scale(const GPTModelConfig& model) {
  const auto original = double(model.rope_scaling_original_max_position_embeddings);
  return longrope_scale(double(model.max_sequence_length()) / original, original);
}

void read_longrope(const json& rope, GPTModelConfig& model) {
  check_rope_keys(rope, {"short_factor", "long_factor", "factor", "attention_factor",
                         "original_max_position_embeddings"});
  model.longrope_short_factor = factors(rope, "short_factor");
  model.longrope_long_factor = factors(rope, "long_factor");
  const double original = required_number(rope, "original_max_position_embeddings");
  model.rope_scaling_original_max_position_embeddings = whole_length(original, kOriginalLength);
  const double factor = number(rope, "factor", double(model.max_sequence_length()) / original);
  model.longrope_mscale = number(rope, "attention_factor", longrope_scale(factor, original));
}

json write_longrope(const GPTModelConfig& model) {
  json rope = {
      {"rope_type", "longrope"},
      {"short_factor", model.longrope_short_factor},
      {"long_factor", model.longrope_long_factor},
      {"original_max_position_embeddings", model.rope_scaling_original_max_position_embeddings}};
  if (model.longrope_mscale != default_longrope_scale(model))
    rope["attention_factor"] = model.longrope_mscale;
  return rope;
}

void read_rotary(const json& rope, GPTModelConfig& model) {
  const auto type = rope["rope_type"].get<std::string>();
  model.rotary_base = rope["rope_theta"].get<double>();
  if (type == "default") return check_rope_keys(rope, {"factor"});
  if (type == "linear") {
    check_rope_keys(rope, {"factor"});
    model.seq_len_interpolation_factor = required_number(rope, "factor");
  } else if (type == "llama3") {
    check_rope_keys(rope, {"factor", "low_freq_factor", "high_freq_factor",
                           "original_max_position_embeddings"});
    model.rope_scaling = true;
    model.rope_scaling_factor = required_number(rope, "factor");
    model.rope_scaling_low_freq_factor = required_number(rope, "low_freq_factor");
    model.rope_scaling_high_freq_factor = required_number(rope, "high_freq_factor");
    model.rope_scaling_original_max_position_embeddings =
        whole_length(required_number(rope, kOriginalLength), kOriginalLength);
  } else if (type == "yarn") {
    read_yarn(rope, model);
  } else if (type == "dynamic") {
    // transformers takes the length before scaling from max_position_embeddings.
    check_rope_keys(rope, {"factor", "original_max_position_embeddings"});
    model.rope_dynamic_scaling_factor = required_number(rope, "factor");
    model.rope_scaling_original_max_position_embeddings = model.max_sequence_length();
  } else if (type == "longrope" || type == "su") {
    read_longrope(rope, model);
  } else {
    fail(
        "Expected rotary parameters of type default, linear, dynamic, llama3, yarn or longrope, "
        "but got '{}', which is not supported",
        type);
  }
}

json write_rotary(const GPTModelConfig& model) {
  json rope = {{"rope_type", "default"}};
  if (model.position_embedding_type == PositionEmbeddingType::yarn) {
    rope = write_yarn(model.transformer.yarn);
  } else if (model.rope_scaling) {
    rope = {
        {"rope_type", "llama3"},
        {"factor", model.rope_scaling_factor},
        {"low_freq_factor", model.rope_scaling_low_freq_factor},
        {"high_freq_factor", model.rope_scaling_high_freq_factor},
        {"original_max_position_embeddings", model.rope_scaling_original_max_position_embeddings}};
  } else if (model.rope_dynamic_scaling_factor) {
    rope = {{"rope_type", "dynamic"}, {"factor", *model.rope_dynamic_scaling_factor}};
  } else if (model.has_longrope()) {
    rope = write_longrope(model);
  } else if (model.seq_len_interpolation_factor) {
    rope = {{"rope_type", "linear"}, {"factor", *model.seq_len_interpolation_factor}};
  }
  rope["rope_theta"] = model.rotary_base;
  return rope;
}

// The names of transformers; those before the first empty one of a function are written.
struct ActivationName {
  const char* name;
  ActivationFunction function;
};
constexpr ActivationName kActivations[] = {
    {"silu", ActivationFunction::silu},
    {"swish", ActivationFunction::silu},
    {"gelu", ActivationFunction::gelu},
    {"gelu_python", ActivationFunction::gelu},
    {"gelu_pytorch_tanh", ActivationFunction::openai_gelu},
    {"gelu_new", ActivationFunction::openai_gelu},
    {"gelu_fast", ActivationFunction::openai_gelu},
    {"gelu_accurate", ActivationFunction::openai_gelu},
    {"quick_gelu", ActivationFunction::quick_gelu},
    {"relu2", ActivationFunction::squared_relu},
};

}  // namespace

void decoder_sizes(HfConfig& hf, GPTModelConfig& model, const DecoderDefaults& defaults) {
  TransformerConfig& t = model.transformer;
  hf.required("hidden_size", t.hidden_size);
  hf.required("intermediate_size", t.ffn_hidden_size);
  hf.required("num_hidden_layers", t.num_layers, HfConfig::kMostLayers);
  hf.required("num_attention_heads", t.num_attention_heads);
  const bool is_missing = !hf.json().contains("num_key_value_heads");
  hf.field("num_key_value_heads", t.num_query_groups,
           is_missing ? defaults.key_value_heads.value_or(t.num_attention_heads)
                      : t.num_attention_heads);
  hf.field("head_dim", t.kv_channels, t.hidden_size / t.num_attention_heads);
  hf.required("vocab_size", model.vocab_size);
  hf.required("max_position_embeddings", model.max_position_embeddings, kLongest);
  if (hf.reads()) model.seq_length = *model.max_position_embeddings;
  hf.field("attention_dropout", t.attention_dropout, defaults.attention_dropout);
  hf.field("tie_word_embeddings", model.share_embeddings_and_output_weights, defaults.tied);
}

LinearBiases linear_biases(const TransformerConfig& t) {
  return {.qkv = t.has_qkv_bias(), .proj = t.has_proj_bias(), .mlp = t.has_mlp_bias()};
}

void set_linear_biases(TransformerConfig& t, const LinearBiases& biases) {
  t.add_bias_linear = biases.qkv && biases.proj && biases.mlp;
  t.add_qkv_bias = biases.qkv && !t.add_bias_linear;
  const auto beside_default = [&](bool has) {
    return has == t.add_bias_linear ? std::optional<bool>() : has;
  };
  t.add_proj_bias = beside_default(biases.proj);
  t.add_mlp_bias = beside_default(biases.mlp);
}

void attention_bias(HfConfig& hf, TransformerConfig& t) {
  LinearBiases biases = linear_biases(t);
  hf.field("attention_bias", biases.qkv, false);
  biases.proj = biases.qkv;
  set_linear_biases(t, biases);
}

void attention_and_mlp_bias(HfConfig& hf, TransformerConfig& t) {
  attention_bias(hf, t);
  LinearBiases biases = linear_biases(t);
  hf.field("mlp_bias", biases.mlp, false);
  set_linear_biases(t, biases);
}

void activation_or(HfConfig& hf, const char* key, TransformerConfig& t, ActivationFunction absent) {
  if (!hf.reads() || hf.has(key)) return activation(hf, key, t);
  hf.ignore({key});
  t.activation_func = absent;
}

void default_head_dim(const HfConfig& hf, TransformerConfig& t, int64_t absent) {
  if (hf.reads() && !hf.has("head_dim")) t.kv_channels = absent;
}

void soft_cap(HfConfig& hf, const char* key, std::optional<double>& cap,
              std::optional<double> absent) {
  if (!hf.reads()) return hf.put(key, cap ? json(*cap) : json());
  const bool missing = !hf.json().contains(key);
  const json value = hf.take(key);
  check(value.is_null() || value.is_number(),
        "Expected a number or null for '{}' in {}, but got {}", key, hf.path(), value.dump());
  cap = value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
  if (missing) cap = absent;
}

void activation(HfConfig& hf, const char* key, TransformerConfig& t, const char* tanh_gelu) {
  if (hf.reads()) {
    const json name = hf.take(key);
    for (const auto& [known, function] : kActivations) {
      if (name == known) {
        t.activation_func = function;
        return;
      }
    }
    fail(
        "Expected '{}' in {} to be one of silu, gelu, gelu_new, gelu_pytorch_tanh, quick_gelu and "
        "relu2, but got {}",
        key, hf.path(), name.dump());
  }
  for (const auto& [known, function] : kActivations) {
    if (function != t.activation_func) continue;
    return hf.put(key, function == ActivationFunction::openai_gelu ? tanh_gelu : known);
  }
}

namespace {

// The type of layers with full attention, where rotary parameters are by type.
constexpr const char* kFullAttention = "full_attention";
constexpr const char* kSlidingAttention = "sliding_attention";

void rotary_of(HfConfig& hf, GPTModelConfig& model, double default_theta,
               std::optional<double> default_partial, const std::string& layer_type) {
  if (!hf.reads()) {
    json rope = write_rotary(model);
    if (default_partial.value_or(1) != 1 || model.rotary_percent != 1)
      rope["partial_rotary_factor"] = model.rotary_percent;
    if (model.has_longrope()) {
      hf.put("original_max_position_embeddings",
             model.rope_scaling_original_max_position_embeddings);
    }
    return hf.put_rope(rope);
  }
  json rope = hf.take_rope(default_theta, layer_type);
  const json partial = hf.take("partial_rotary_factor");
  model.rotary_percent =
      number(rope, "partial_rotary_factor",
             partial.is_number() ? partial.get<double>() : default_partial.value_or(1));
  check(default_partial || model.rotary_percent == 1,
        "Expected 'partial_rotary_factor' 1 in {}, but got {}: transformers rotates whole heads in "
        "this family, whatever the key says; remove it",
        hf.path(), model.rotary_percent);
  const json original = hf.take("original_max_position_embeddings");
  const bool has_original = rope.contains("original_max_position_embeddings");
  if (rope["rope_type"] == "longrope" && !has_original && original.is_number())
    rope["original_max_position_embeddings"] = original;
  read_rotary(rope, model);
}

}  // namespace

void rotary(HfConfig& hf, GPTModelConfig& model, double default_theta,
            std::optional<double> default_partial) {
  rotary_of(hf, model, default_theta, default_partial, "");
}

void rotary_by_layer_type(HfConfig& hf, GPTModelConfig& model, double default_theta,
                          double default_local_theta) {
  rotary_of(hf, model, default_theta, /*default_partial=*/std::nullopt, kFullAttention);
  if (!hf.reads()) {
    const double local = model.rotary_base_local.value_or(model.rotary_base);
    if (default_local_theta != 0) return hf.put("rope_local_base_freq", local);
    json full = write_rotary(model);
    return hf.put("rope_parameters",
                  {{kFullAttention, full},
                   {kSlidingAttention, {{"rope_type", "default"}, {"rope_theta", local}}}});
  }
  const json by_type = hf.take("rope_parameters"), local = hf.take("rope_local_base_freq");
  double theta = default_local_theta != 0 ? default_local_theta : model.rotary_base;
  if (local.is_number()) theta = local.get<double>();
  if (by_type.is_object() && by_type.contains(kSlidingAttention)) {
    const json& rope = by_type[kSlidingAttention];
    check(rope.is_object() && (!rope.contains("rope_type") || rope["rope_type"] == "default"),
          "Expected rotary parameters of type 'default' for sliding_attention in {}, but got {}",
          hf.path(), rope.dump());
    theta = number(rope, "rope_theta", theta);
    check(number(rope, "partial_rotary_factor", 1) == model.rotary_percent,
          "Expected the same 'partial_rotary_factor' in all layers of {}, but got {}", hf.path(),
          rope.dump());
  }
  if (!model.transformer.window_size.empty()) model.rotary_base_local = theta;
}

void alternating_windows(HfConfig& hf, TransformerConfig& t, int64_t absent,
                         int64_t default_pattern) {
  if (!hf.reads()) {
    json types = json::array();
    for (int64_t layer = 1; layer <= t.num_layers; ++layer)
      types.push_back(t.has_window(layer) ? kSlidingAttention : kFullAttention);
    hf.put("layer_types", types);
    return hf.put("sliding_window", t.window_size.empty() ? json() : json(t.window_size.at(0) + 1));
  }
  const bool missing = !hf.json().contains("sliding_window");
  const json window = missing ? json(absent) : hf.take("sliding_window");
  check(window.is_null() || (window.is_number_integer() && window.get<int64_t>() > 0),
        "Expected a positive integer or null for 'sliding_window' in {}, but got {}", hf.path(),
        window.dump());
  if (!window.is_null()) t.window_size = {window.get<int64_t>() - 1, 0};
  json pattern = hf.take("sliding_window_pattern");
  const json private_pattern = hf.take("_sliding_window_pattern");
  if (hf.has("layer_types")) return layer_types(hf, t);
  hf.ignore({"layer_types"});
  if (t.window_size.empty()) return;
  if (pattern.is_null()) pattern = private_pattern;
  if (pattern.is_null()) pattern = default_pattern;
  std::vector<int64_t> windows;
  if (pattern.is_string()) {  // "LLLG": local and global layers, repeated
    const auto letters = pattern.get<std::string>();
    check(!letters.empty() && letters.find_first_not_of("LG") == std::string::npos,
          "Expected letters L and G for 'sliding_window_pattern' in {}, but got '{}'", hf.path(),
          letters);
    for (int64_t layer = 0; layer < t.num_layers; ++layer) {
      const bool last = layer == t.num_layers - 1;
      windows.push_back(!last && letters[layer % std::ssize(letters)] == 'L' ? 1 : 0);
    }
  } else {
    check(pattern.is_number_integer() && pattern.get<int64_t>() > 0,
          "Expected a positive integer for 'sliding_window_pattern' in {}, but got {}", hf.path(),
          pattern.dump());
    for (int64_t layer = 1; layer <= t.num_layers; ++layer)
      windows.push_back(layer % pattern.get<int64_t>() != 0 ? 1 : 0);
  }
  if (std::ranges::count(windows, 1) == 0) {
    t.window_size.clear();
  } else if (std::ranges::count(windows, 0) > 0) {
    t.window_attn_skip_freq = windows;
  }
}

void no_rope_without_window(TransformerConfig& t) {
  std::vector<int64_t> without;
  for (int64_t layer = 1; layer <= t.num_layers; ++layer)
    without.push_back(t.has_window(layer) ? 0 : 1);
  t.no_rope_freq.clear();
  if (std::ranges::count(without, 1) > 0) t.no_rope_freq = without;
}

void sliding_window(HfConfig& hf, TransformerConfig& t) {
  const bool has_window = !t.window_size.empty();
  if (!hf.reads()) {
    hf.put("sliding_window", has_window ? json(t.window_size.at(0) + 1) : json());
    return layer_types(hf, t);
  }
  const json window = hf.take("sliding_window");
  check(window.is_null() || (window.is_number_integer() && window.get<int64_t>() > 0),
        "Expected a positive integer or null for 'sliding_window' in {}, but got {}", hf.path(),
        window.dump());
  if (!window.is_null()) t.window_size = {window.get<int64_t>() - 1, 0};
  layer_types(hf, t);
}

void layer_types(HfConfig& hf, TransformerConfig& t) {
  if (!hf.reads()) {
    if (t.window_attn_skip_freq.empty()) return;
    json types = json::array();
    for (int64_t layer = 1; layer <= t.num_layers; ++layer)
      types.push_back(t.has_window(layer) ? "sliding_attention" : "full_attention");
    return hf.put("layer_types", types);
  }
  const json types = hf.take("layer_types");
  if (types.is_null()) return;
  check(types.is_array() && int64_t(types.size()) == t.num_layers,
        "Expected 'layer_types' of {} entries in {}, but got {}", t.num_layers, hf.path(),
        types.dump());
  std::vector<int64_t> windows;
  for (const json& type : types) {
    check(type == "sliding_attention" || type == "full_attention",
          "Expected 'layer_types' of sliding_attention and full_attention in {}, but got {}",
          hf.path(), type.dump());
    windows.push_back(type == "sliding_attention" ? 1 : 0);
  }
  const bool any = std::ranges::count(windows, 1) > 0, all = std::ranges::count(windows, 0) == 0;
  check(!any || !t.window_size.empty(),
        "Expected 'sliding_window' with sliding_attention in 'layer_types' of {}, but got none",
        hf.path());
  if (!any) t.window_size.clear();
  if (any && !all) t.window_attn_skip_freq = windows;
}

std::vector<TensorRow> llama_rows() {
  const std::string ours = "decoder.layers.*.", theirs = "model.layers.*.";
  const auto three = [&](const std::string& kind) {
    std::vector<std::string> names;
    for (const char* which : {"q", "k", "v"})
      names.push_back(theirs + "self_attn." + which + "_proj." + kind);
    return names;
  };
  const auto pair = [&](const std::string& kind) {
    return std::vector<std::string>{theirs + "mlp.gate_proj." + kind,
                                    theirs + "mlp.up_proj." + kind};
  };
  return {
      {"embedding.word_embeddings.weight", {"model.embed_tokens.weight"}, same},
      {ours + "self_attention.linear_qkv.layer_norm_weight",
       {theirs + "input_layernorm.weight"},
       same},
      {ours + "self_attention.linear_qkv.layer_norm_bias", {theirs + "input_layernorm.bias"}, same},
      {ours + "self_attention.linear_qkv.weight", three("weight"), query_key_value},
      {ours + "self_attention.linear_qkv.bias", three("bias"), query_key_value},
      {ours + "self_attention.linear_proj.weight", {theirs + "self_attn.o_proj.weight"}, same},
      {ours + "self_attention.linear_proj.bias", {theirs + "self_attn.o_proj.bias"}, same},
      {ours + "mlp.linear_fc1.layer_norm_weight",
       {theirs + "post_attention_layernorm.weight"},
       same},
      {ours + "mlp.linear_fc1.layer_norm_bias", {theirs + "post_attention_layernorm.bias"}, same},
      {ours + "mlp.linear_fc1.weight", pair("weight"), gate_and_up},
      {ours + "mlp.linear_fc1.bias", pair("bias"), gate_and_up},
      {ours + "mlp.linear_fc2.weight", {theirs + "mlp.down_proj.weight"}, same},
      {ours + "mlp.linear_fc2.bias", {theirs + "mlp.down_proj.bias"}, same},
      {"decoder.final_layernorm.weight", {"model.norm.weight"}, same},
      {"decoder.final_layernorm.bias", {"model.norm.bias"}, same},
      {"output_layer.weight", {"lm_head.weight"}, same},
  };
}

std::vector<TensorRow> ungated_llama_rows() {
  const std::string ours = "decoder.layers.*.mlp.linear_fc1.",
                    theirs = "model.layers.*.mlp.up_proj.";
  return with_rows(llama_rows(), {{ours + "weight", {theirs + "weight"}, same},
                                  {ours + "bias", {theirs + "bias"}, same}});
}

std::vector<TensorRow> query_key_norm_rows() {
  const std::string ours = "decoder.layers.*.self_attention.";
  const std::string theirs = "model.layers.*.self_attn.";
  return {{ours + "q_layernorm.weight", {theirs + "q_norm.weight"}, same},
          {ours + "k_layernorm.weight", {theirs + "k_norm.weight"}, same}};
}

std::vector<TensorRow> norm_after_rows() {
  const std::string ours = "decoder.layers.*.", theirs = "model.layers.*.";
  return {{ours + "self_attention.linear_proj.post_layernorm.weight",
           {theirs + "post_attention_layernorm.weight"},
           same},
          {ours + "mlp.linear_fc2.post_layernorm.weight",
           {theirs + "post_feedforward_layernorm.weight"},
           same}};
}

std::vector<TensorRow> with_rows(std::vector<TensorRow> rows, const std::vector<TensorRow>& more) {
  for (const TensorRow& row : more) {
    const auto found = std::ranges::find(rows, row.parameter, &TensorRow::parameter);
    if (found == rows.end()) {
      rows.push_back(row);
    } else {
      *found = row;
    }
  }
  return rows;
}

}  // namespace megatron
