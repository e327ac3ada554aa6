#include "megatron/convert/hf_family.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/options/options_json.h"
#include "megatron/convert/unsupported_families.h"

namespace megatron {
namespace {

// Of transformers 4 and 5, and of GPT-NeoX's first files.
constexpr const char* kRotaryKeys[] = {"partial_rotary_factor",
                                       "rope_local_base_freq",
                                       "rope_parameters",
                                       "rope_scaling",
                                       "rope_theta",
                                       "rotary_emb_base",
                                       "rotary_pct"};

nlohmann::json write_unchecked(const HfFamily& family, const GPTModelConfig& model) {
  HfConfig hf;
  GPTModelConfig copy = model;
  // A file gives every size.
  TransformerConfig& t = copy.transformer;
  t.ffn_hidden_size = t.ffn_size();
  t.num_query_groups = t.query_groups();
  t.kv_channels = t.head_dim();
  copy.max_position_embeddings = model.max_sequence_length();
  family.configure(hf, copy);
  nlohmann::json config = hf.json();
  config["architectures"] = {family.architecture};
  config["model_type"] = family.model_type;
  config["initializer_range"] = model.transformer.init_method_std;
  return config;
}

// What of `model` is not expressed by `written`; empty if it is all.
std::string lost_in(const HfFamily& family, const GPTModelConfig& model,
                    const nlohmann::json& written) {
  return model_differences(model, read_hf_config(family, written, "the written config.json"));
}

// What of `model` the family cannot express; empty if it can express all.
std::string lost_by(const HfFamily& family, const GPTModelConfig& model) {
  try {
    return lost_in(family, model, write_unchecked(family, model));
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

std::string model_differences(GPTModelConfig left, const GPTModelConfig& right) {
  left.make_vocab_size_divisible_by = right.make_vocab_size_divisible_by;
  left.should_pad_vocab = right.should_pad_vocab;
  Options a, b;
  a.model = left;
  b.model = right;
  std::vector<std::string> texts;
  for (const ArchitectureDifference& difference : architecture_differences(a, b)) {
    texts.push_back(
        fmt::format("{} {} instead of {}", difference.field, difference.left, difference.right));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

const HfFamily& hf_family(std::string_view model_type) {
  std::vector<std::string> names;
  for (const HfFamily& family : hf_families()) {
    if (family.model_type == model_type) return family;
    names.push_back(family.model_type);
  }
  fail("Expected a model_type of {}, but got '{}'; the nearest is {}", fmt::join(names, ", "),
       model_type, nearest_name(model_type, names));
}

const HfFamily& find_hf_family(const nlohmann::json& config, const std::string& path) {
  std::vector<std::string> architectures;
  if (config.contains("architectures") && config["architectures"].is_array()) {
    for (const auto& name : config["architectures"])
      if (name.is_string()) architectures.push_back(name.get<std::string>());
  }
  const std::string type =
      config.contains("model_type") && config["model_type"].is_string() ? config["model_type"] : "";
  std::vector<std::string> known;
  for (const HfFamily& family : hf_families()) {
    for (const std::string& name : architectures) {
      if (name == family.architecture) return family;
    }
    known.push_back(family.architecture);
  }
  refuse_unsupported_family(architectures, type, path);
  // Files of the bare model name a class without an output layer, or none.
  for (const HfFamily& family : hf_families()) {
    const std::string base = family.architecture.substr(0, family.architecture.find("For"));
    const bool bare = architectures.empty() || architectures.front().starts_with(base);
    const bool classifies =
        !architectures.empty() && architectures.front().find("For") != std::string::npos;
    if (family.model_type == type && bare && !classifies) return family;
  }
  fail("Expected 'architectures' of {} to name one of {}, but got {} (model_type '{}')", path,
       fmt::join(known, ", "),
       architectures.empty() ? "none" : fmt::format("{}", fmt::join(architectures, ", ")), type);
}

GPTModelConfig family_defaults() {
  GPTModelConfig model;
  model.should_pad_vocab = true;
  model.make_vocab_size_divisible_by = 1;
  model.position_embedding_type = PositionEmbeddingType::rope;
  TransformerConfig& t = model.transformer;
  t.normalization = Normalization::RMSNorm;
  t.activation_func = ActivationFunction::silu;
  t.gated_linear_unit = true;
  t.add_bias_linear = false;
  t.hidden_dropout = 0;
  t.attention_dropout = 0;
  return model;
}

GPTModelConfig read_hf_config(const HfFamily& family, const nlohmann::json& config,
                              const std::string& path, std::vector<std::string>* notes) {
  HfConfig hf(config, path);
  GPTModelConfig model = family_defaults();
  const nlohmann::json std_dev = hf.take("initializer_range");
  if (std_dev.is_number() && std_dev.get<double>() > 0)
    model.transformer.init_method_std = std_dev.get<double>();
  hf.only("quantization_config", nullptr, "quantized weights are not supported yet");
  hf.only("is_causal", true, "attention to later tokens is not a GPT's");
  hf.only("is_encoder_decoder", false, "it has an encoder");
  hf.only("add_cross_attention", false, "it has cross attention");
  hf.only("cross_attention_hidden_size", nullptr, "it has cross attention");
  hf.only("pruned_heads", nlohmann::json::object(), "heads are missing");
  family.configure(hf, model);
  const std::vector<std::string> off = hf.check_all_read(family.model_type);
  if (notes != nullptr && !off.empty()) {
    notes->push_back(fmt::format("{}: {} ignored, which {} models do not have", path,
                                 fmt::join(off, ", "), family.model_type));
  }
  return model;
}

nlohmann::json write_hf_config(const HfFamily& family, const GPTModelConfig& model) {
  const std::string lost = lost_by(family, model);
  check(lost.empty(), "Expected a model that the {} family can express, but got {}",
        family.model_type, lost);
  return write_unchecked(family, model);
}

nlohmann::json updated_hf_config(const HfFamily& family, const nlohmann::json& config,
                                 const GPTModelConfig& model) {
  const GPTModelConfig source = read_hf_config(family, config, "the stored config.json");
  const bool same_length = source.max_sequence_length() == model.max_sequence_length();
  if (same_length && model_differences(source, model).empty()) return config;
  const nlohmann::json before = write_unchecked(family, source),
                       after = write_unchecked(family, model);
  nlohmann::json updated = config;
  const auto changed = [&](const std::string& key) {
    return after.contains(key) != before.contains(key) ||
           (after.contains(key) && after[key] != before[key]);
  };
  for (const auto& [key, value] : after.items()) {
    if (changed(key)) updated[key] = value;
  }
  // The rotary keys go together: one spelling would hide another, and the length is the default of
  // some of their values.
  if (!same_length || std::ranges::any_of(kRotaryKeys, changed)) {
    for (const char* key : kRotaryKeys) {
      updated.erase(key);
      if (after.contains(key)) updated[key] = after[key];
    }
  }
  const std::string lost = lost_in(family, model, updated);
  check(lost.empty(), "Expected a model that the {} family can express, but got {}",
        family.model_type, lost);
  return updated;
}

const HfFamily& family_of_model(const GPTModelConfig& model) {
  std::string nearest;
  for (const HfFamily& family : hf_families()) {
    const std::string lost = lost_by(family, model);
    if (lost.empty()) return family;
    if (nearest.empty() || lost.size() < nearest.size())
      nearest = fmt::format("{} ({})", family.model_type, lost);
  }
  fail(
      "Expected a model that a family of Hugging Face can express, but none can; the nearest is {}",
      nearest);
}

}  // namespace megatron
