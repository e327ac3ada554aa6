#include "megatron/convert/gguf_config.h"

#include <cmath>
#include <set>

#include "megatron/base/error.h"
#include "megatron/convert/hf_config.h"
#include "megatron/convert/rope_factors.h"

namespace megatron {
namespace {

using nlohmann::json;

// The metadata of an architecture; remembers which keys were read.
class ModelKeys {
 public:
  ModelKeys(const GgufMetadata& metadata, const GgufArchitecture& architecture)
      : metadata_(metadata), prefix_(std::string(architecture.name) + ".") {}

  bool has(const std::string& key) const { return metadata_.contains(prefix_ + key); }
  int64_t integer(const std::string& key, std::optional<int64_t> otherwise = std::nullopt) {
    return metadata_.integer(read(key), otherwise);
  }
  // A float is stored in 32 bits: the decimal number that it is nearest to, 1e-05 and not
  // 9.999999747378752e-06.
  double real(const std::string& key, std::optional<double> otherwise = std::nullopt) {
    const double value = metadata_.real(read(key), otherwise);
    const auto* single = has(key) ? std::get_if<float>(metadata_.find(prefix_ + key)) : nullptr;
    return single != nullptr ? std::stod(fmt::format("{}", *single)) : value;
  }
  std::string text(const std::string& key, const std::string& otherwise) {
    return metadata_.text(read(key), otherwise);
  }
  // A number for all layers, or equal ones for each.
  int64_t per_layer(const std::string& key, int64_t layers, int64_t otherwise) {
    const std::string full = read(key);
    if (!metadata_.contains(full)) return otherwise;
    const auto values = metadata_.integers(full, static_cast<size_t>(layers));
    for (const int64_t value : values) {
      check(value == values.front(),
            "Expected {} of {} to be equal for all layers, but got {} and {}", full,
            metadata_.source(), values.front(), value);
    }
    check(std::ssize(values) == layers, "Expected {} values of {} in {}, but got {}", layers, full,
          metadata_.source(), values.size());
    return values.front();
  }
  std::vector<bool> booleans(const std::string& key) { return metadata_.booleans(read(key)); }

  // A key of which only one value works.
  void only(const std::string& key, const GgufValue& value, const char* reason) {
    const GgufValue* found = metadata_.find(read(key));
    check(found == nullptr || *found == value, "Expected no '{}{}' in {}, or its neutral value: {}",
          prefix_, key, metadata_.source(), reason);
  }
  void ignore(const std::string& key) { read(key); }

  void check_all_read() const {
    for (const auto& [key, value] : metadata_.entries()) {
      check(!key.starts_with(prefix_) || read_.contains(key),
            "Expected metadata that are known of the architecture in {}, but got '{}' ({}), which "
            "is not supported",
            metadata_.source(), key, gguf_type_name(value));
    }
  }
  const std::string& source() const { return metadata_.source(); }

 private:
  std::string read(const std::string& key) {
    read_.insert(prefix_ + key);
    return prefix_ + key;
  }

  const GgufMetadata& metadata_;
  std::string prefix_;
  std::set<std::string> read_;
};

json linear_scaling(double factor) {
  return {{"rope_type", "linear"}, {"factor", factor}};
}

json yarn_scaling(ModelKeys& keys) {
  json rope = {
      {"rope_type", "yarn"},
      {"factor", keys.real("rope.scaling.factor")},
      {"original_max_position_embeddings", keys.integer("rope.scaling.original_context_length")}};
  rope["beta_fast"] = keys.real("rope.scaling.yarn_beta_fast", 32);
  rope["beta_slow"] = keys.real("rope.scaling.yarn_beta_slow", 1);
  return rope;
}

// The divisors of rope_freqs.weight as rotary parameters.
json frequency_scaling(const GgufHeader& header, double theta, int64_t head_dim) {
  const at::Tensor& tensor = header.rope_factors;
  const std::string& source = header.metadata.source();
  const std::vector<float> factors(tensor.const_data_ptr<float>(),
                                   tensor.const_data_ptr<float>() + tensor.numel());
  check(tensor.dim() == 1 && tensor.numel() == head_dim / 2,
        "Expected rope_freqs.weight of {} values in {}, but got {}", head_dim / 2, source,
        tensor.numel());
  bool neutral = true;
  for (const float factor : factors) {
    check(std::isfinite(factor) && factor > 0,
          "Expected positive values in rope_freqs.weight of {}, but got {}", source, factor);
    neutral = neutral && factor == 1;
  }
  if (neutral) return {{"rope_type", "default"}};
  if (const auto scaling = fit_llama3_scaling(factors, theta)) {
    return {{"rope_type", "llama3"},
            {"factor", scaling->factor},
            {"low_freq_factor", scaling->low_freq_factor},
            {"high_freq_factor", scaling->high_freq_factor},
            {"original_max_position_embeddings", scaling->original_length}};
  }
  // Any other divisors, of every length.
  return {{"rope_type", "longrope"},
          {"short_factor", factors},
          {"long_factor", factors},
          {"attention_factor", 1.0}};
}

json read_rope(const GgufHeader& header, ModelKeys& keys, int64_t head_dim, int64_t context,
               double theta) {
  const double old_factor = keys.real("rope.scale_linear", 1);
  const std::string type = keys.text("rope.scaling.type", "none");
  keys.ignore("rope.scaling.finetuned");
  keys.only("rope.scaling.attn_factor", 1.0f, "a scale of the rotary tables is not supported");
  json rope = {{"rope_type", "default"}};
  if (header.rope_factors.defined()) {
    check(type == "none" && old_factor == 1,
          "Expected rope_freqs.weight or rope.scaling in {}, but got both ('{}')", keys.source(),
          type);
    rope = frequency_scaling(header, theta, head_dim);
    if (rope["rope_type"] == "longrope") rope["original_max_position_embeddings"] = context;
  } else if (type == "linear") {
    rope = linear_scaling(keys.real("rope.scaling.factor"));
  } else if (type == "yarn") {
    rope = yarn_scaling(keys);
  } else {
    check(type == "none", "Expected rope.scaling.type none, linear or yarn in {}, but got '{}'",
          keys.source(), type);
    if (old_factor != 1) rope = linear_scaling(old_factor);
    keys.only("rope.scaling.factor", 1.0f, "rope.scaling.type says what it means");
  }
  // Some writers keep the original length beside other scalings.
  keys.ignore("rope.scaling.original_context_length");
  rope["rope_theta"] = theta;
  return rope;
}

bool has_bias(const GgufHeader& header, const char* name) {
  return header.shapes.contains(fmt::format("blk.0.{}.bias", name));
}

// Gemma 2 and 3.

void add_gemma(ModelKeys& keys, const GgufArchitecture& architecture, int64_t layers,
               json& config) {
  const auto heads = config["num_attention_heads"].get<int64_t>();
  const auto hidden = config["hidden_size"].get<int64_t>();
  config["sliding_window"] = keys.integer("attention.sliding_window");
  const bool gemma2 = std::string_view(architecture.name) == "gemma2";
  config["query_pre_attn_scalar"] =
      gemma_query_scalar(architecture, layers, hidden, heads, config["head_dim"].get<int64_t>());
  const int64_t pattern = gemma_window_pattern(architecture);
  json types = json::array();
  for (int64_t layer = 1; layer <= layers; ++layer)
    types.push_back(layer % pattern == 0 ? "full_attention" : "sliding_attention");
  if (keys.has("attention.sliding_window_pattern")) {
    const auto windows = keys.booleans("attention.sliding_window_pattern");
    check(std::ssize(windows) == layers,
          "Expected attention.sliding_window_pattern of {} layers in {}, but got {}", layers,
          keys.source(), windows.size());
    for (int64_t layer = 0; layer < layers; ++layer)
      types[size_t(layer)] = windows[size_t(layer)] ? "sliding_attention" : "full_attention";
  }
  config["layer_types"] = types;
  if (gemma2) {
    config["attn_logit_softcapping"] = keys.real("attn_logit_softcapping", 50);
    config["final_logit_softcapping"] = keys.real("final_logit_softcapping", 30);
  } else {
    config["rope_local_base_freq"] = keys.real("rope.freq_base_swa", 10000);
    const double final_cap = keys.real("final_logit_softcapping", 0);
    config["final_logit_softcapping"] = final_cap == 0 ? json() : json(final_cap);
    config["attn_logit_softcapping"] = nullptr;
  }
}

std::optional<int64_t> token_id(const GgufMetadata& metadata, const char* name) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  if (!metadata.contains(key)) return std::nullopt;
  const int64_t id = metadata.integer(key);
  if (id < 0 || id == int64_t{UINT32_MAX}) return std::nullopt;
  return id;
}

void add_token_ids(const GgufMetadata& metadata, json& config) {
  const std::pair<const char*, const char*> names[] = {
      {"bos_token_id", "bos"}, {"eos_token_id", "eos"}, {"pad_token_id", "padding"}};
  for (const auto& [key, name] : names) {
    if (const auto id = token_id(metadata, name)) config[key] = *id;
  }
}

const std::vector<int64_t>& embedding_shape(const GgufHeader& header) {
  const auto found = header.shapes.find("token_embd.weight");
  check(found != header.shapes.end() && found->second.size() == 2,
        "Expected token_embd.weight with two dimensions in {}, but got {}",
        header.metadata.source(), found == header.shapes.end() ? "none" : "another");
  return found->second;
}

}  // namespace

GgufHeader header_of_gguf(const GgufFile& file) {
  GgufHeader header{.metadata = file.metadata()};
  for (const std::string& name : file.names()) header.shapes[name] = file.entry(name).shape;
  if (file.contains("rope_freqs.weight")) header.rope_factors = file.tensor("rope_freqs.weight");
  return header;
}

json hf_config_of_gguf(const GgufHeader& header, const GgufArchitecture& architecture) {
  ModelKeys keys(header.metadata, architecture);
  json config = {{"architectures", {architecture.model_class}},
                 {"model_type", architecture.model_types.front()}};
  config["hidden_size"] = keys.integer("embedding_length");
  config["intermediate_size"] = [&] {
    const int64_t layers = keys.integer("block_count");
    check(layers > 0 && layers <= HfConfig::kMostLayers,
          "Expected block_count from 1 to {} in {}, but got {}", HfConfig::kMostLayers,
          keys.source(), layers);
    config["num_hidden_layers"] = layers;
    const int64_t heads = keys.per_layer("attention.head_count", layers, 0);
    config["num_attention_heads"] = heads;
    config["num_key_value_heads"] = keys.per_layer("attention.head_count_kv", layers, heads);
    return keys.per_layer("feed_forward_length", layers, 0);
  }();
  const auto layers = config["num_hidden_layers"].get<int64_t>();
  const auto heads = config["num_attention_heads"].get<int64_t>();
  const auto hidden = config["hidden_size"].get<int64_t>();
  check(heads > 0 && hidden > 0,
        "Expected attention.head_count and embedding_length above 0 in {}, but got {} and {}",
        keys.source(), heads, hidden);
  const int64_t head_dim = keys.integer("attention.key_length", hidden / heads);
  check(keys.integer("attention.value_length", head_dim) == head_dim,
        "Expected equal attention.key_length and value_length in {}, but got {} and {}",
        keys.source(), head_dim, keys.integer("attention.value_length", head_dim));
  check(
      keys.integer("rope.dimension_count", head_dim) == head_dim,
      "Expected rope.dimension_count of the head's {} in {}, but got {}: partial rotary positions "
      "are not part of {}",
      head_dim, keys.source(), keys.integer("rope.dimension_count", head_dim),
      config["model_type"].get<std::string>());
  config["head_dim"] = head_dim;
  const int64_t context = keys.integer("context_length");
  config["max_position_embeddings"] = context;
  config["rms_norm_eps"] = keys.real("attention.layer_norm_rms_epsilon");
  // Gemma's families call it hidden_activation.
  config[architecture.tanh_gelu ? "hidden_activation" : "hidden_act"] =
      architecture.tanh_gelu ? "gelu_pytorch_tanh" : "silu";
  config["attention_dropout"] = 0.0;
  const double default_theta = std::string(architecture.name) == "gemma3" ? 1e6 : 1e4;
  const double theta = keys.real("rope.freq_base", default_theta);
  const json rope = read_rope(header, keys, head_dim, context, theta);
  config["rope_theta"] = theta;
  config["rope_scaling"] = nullptr;
  if (rope["rope_type"] != "default") {
    config["rope_scaling"] = rope;
    config["rope_scaling"].erase("rope_theta");
  }
  const int64_t vocabulary = embedding_shape(header).front();
  check(keys.integer("vocab_size", vocabulary) == vocabulary,
        "Expected vocab_size of the {} rows of token_embd.weight in {}, but got {}", vocabulary,
        keys.source(), keys.integer("vocab_size", vocabulary));
  config["vocab_size"] = vocabulary;
  config["tie_word_embeddings"] = !header.shapes.contains("output.weight");
  const std::string name = architecture.name;
  if (name == "llama" || name == "qwen3") config["attention_bias"] = has_bias(header, "attn_q");
  if (name == "llama") config["mlp_bias"] = has_bias(header, "ffn_gate");
  if (name == "qwen2" || name == "qwen3") config["use_sliding_window"] = false;
  if (architecture.has_window) add_gemma(keys, architecture, layers, config);
  keys.only("expert_count", uint32_t{0}, "experts are not supported yet");
  keys.only("expert_used_count", uint32_t{0}, "experts are not supported yet");
  keys.only("attention.causal", true, "only causal attention is a GPT's");
  keys.only("use_parallel_residual", false, "attention and MLP follow one another");
  keys.ignore("tensor_data_layout");
  keys.check_all_read();
  add_token_ids(header.metadata, config);
  return config;
}

int64_t gemma_query_scalar(const GgufArchitecture& architecture, int64_t layers, int64_t hidden,
                           int64_t heads, int64_t head_dim) {
  constexpr int64_t kGemma2Layers27b = 46, kGemma3Layers27b = 62;
  const bool gemma2 = std::string_view(architecture.name) == "gemma2";
  return layers == (gemma2 ? kGemma2Layers27b : kGemma3Layers27b) ? hidden / heads : head_dim;
}

int64_t gemma_window_pattern(const GgufArchitecture& architecture) {
  return std::string_view(architecture.name) == "gemma2" ? 2 : 6;
}

json generation_config_of_gguf(const GgufMetadata& metadata) {
  json config = json::object();
  add_token_ids(metadata, config);
  return config.empty() ? json() : config;
}

}  // namespace megatron
