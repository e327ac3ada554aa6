#include "megatron/convert/hf_config.h"

#include <fmt/ranges.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

// Keys of every configuration that say nothing about the model's function.
constexpr const char* kCommonKeys[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_experts_implementation",
    "_experts_implementation_internal",
    "_flash_attn_2_enabled",
    "_from_model_config",
    "_model_name_or_path",
    "_name_or_path",
    "_use_flash_attention_2",
    "add_bos_token",
    "add_eos_token",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "base_model_pp_plan",
    "base_model_tp_plan",
    "begin_suppress_tokens",
    "bos_token",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_token_id",
    "custom_pipelines",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token",
    "eos_token_id",
    "eot_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "fsdp_plan",
    "gradient_checkpointing",
    "guidance_scale",
    "hidden_activation",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "logits_to_keep",
    "loss_type",
    "mask_token_id",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "min_length",
    "min_new_tokens",
    "model_max_length",
    "model_name",
    "model_type",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_logits_to_keep",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token",
    "pad_token_id",
    "penalty_alpha",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "tokenizer_file",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "transformers_weights",
    "typical_p",
    "unk_token",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention",
    "use_flash_attention_2",
    "use_flash_attn",
    "use_return_dict",
};

}  // namespace

HfConfig::HfConfig(nlohmann::json json, std::string path)
    : reads_(true), path_(std::move(path)), json_(std::move(json)) {
  check(json_.is_object(), "Expected {} to hold a JSON object, but got {}", path_,
        json_.type_name());
  for (const char* key : kCommonKeys) read_.insert(key);
}

void HfConfig::fail_type(const char* key, const char* expected) const {
  fail("Expected {} for '{}' in {}, but got {}", expected, key, path_, json_.at(key).dump());
}

nlohmann::json HfConfig::take(const std::string& key) {
  read_.insert(key);
  return json_.contains(key) ? json_[key] : nlohmann::json();
}

bool HfConfig::has(const std::string& key) const {
  return json_.contains(key) && !json_[key].is_null();
}

void HfConfig::put(const std::string& key, nlohmann::json value) {
  json_[key] = std::move(value);
}

void HfConfig::field(const char* key, bool& value, bool absent) {
  if (!reads_) return put(key, value);
  const nlohmann::json json = take(key);
  if (!json.is_null() && !json.is_boolean()) fail_type(key, "true or false");
  value = json.is_null() ? absent : json.get<bool>();
}

void HfConfig::field(const char* key, int64_t& value, int64_t absent) {
  if (!reads_) return put(key, value);
  const nlohmann::json json = take(key);
  if (!json.is_null() && !json.is_number_integer()) fail_type(key, "an integer");
  value = json.is_null() ? absent : json.get<int64_t>();
}

void HfConfig::field(const char* key, double& value, double absent) {
  if (!reads_) return put(key, value);
  const nlohmann::json json = take(key);
  if (!json.is_null() && !json.is_number()) fail_type(key, "a number");
  value = json.is_null() ? absent : json.get<double>();
}

void HfConfig::field(const char* key, std::optional<int64_t>& value, int64_t absent) {
  int64_t number = value.value_or(absent);
  field(key, number, absent);
  value = number;
}

void HfConfig::required(const char* key, int64_t& value, int64_t most) {
  check(!reads_ || has(key), "Expected '{}' in {}, but it has none", key, path_);
  field(key, value, /*absent=*/0);
  check(!reads_ || (value >= 1 && value <= most),
        "Expected '{}' of {} between 1 and {}, but got {}", key, path_, most, value);
}

void HfConfig::required(const char* key, std::optional<int64_t>& value, int64_t most) {
  int64_t number = value.value_or(0);
  required(key, number, most);
  value = number;
}

void HfConfig::ignore(std::initializer_list<const char*> keys) {
  for (const char* key : keys) read_.insert(key);
}

void HfConfig::only(const std::string& key, const nlohmann::json& value,
                    const std::string& reason) {
  if (!reads_) return;
  const nlohmann::json got = take(key);
  check(got.is_null() || got == value, "Expected '{}' of {} to be {}, but got {}: {}", key, path_,
        value.dump(), got.dump(), reason);
}

nlohmann::json HfConfig::take_rope(double default_theta, const std::string& layer_type) {
  nlohmann::json rope = take("rope_parameters");
  if (rope.is_object() && !layer_type.empty() && rope.contains(layer_type)) rope = rope[layer_type];
  const nlohmann::json theta = take("rope_theta"), scaling = take("rope_scaling");
  if (rope.is_null()) rope = nlohmann::json::object();
  check(rope.is_object() && (scaling.is_null() || scaling.is_object()),
        "Expected an object for 'rope_parameters' or 'rope_scaling' in {}, but got {}", path_,
        rope.is_object() ? scaling.dump() : rope.dump());
  if (scaling.is_object()) {
    for (const auto& [key, value] : scaling.items()) {
      if (!rope.contains(key)) rope[key] = value;
    }
  }
  if (!rope.contains("rope_type")) {
    rope["rope_type"] = rope.contains("type") ? rope["type"] : nlohmann::json("default");
  }
  rope.erase("type");
  if (!rope.contains("rope_theta"))
    rope["rope_theta"] = theta.is_null() ? nlohmann::json(default_theta) : theta;
  check(rope["rope_theta"].is_number() && rope["rope_type"].is_string(),
        "Expected a number for 'rope_theta' and a name for 'rope_type' in {}, but got {} and {}",
        path_, rope["rope_theta"].dump(), rope["rope_type"].dump());
  return rope;
}

void HfConfig::put_rope(const nlohmann::json& rope) {
  put("rope_theta", rope.at("rope_theta"));
  if (rope.contains("partial_rotary_factor"))
    put("partial_rotary_factor", rope["partial_rotary_factor"]);
  nlohmann::json scaling = rope;
  scaling.erase("rope_theta");
  scaling.erase("partial_rotary_factor");
  put("rope_scaling", rope.at("rope_type") == "default" ? nlohmann::json() : scaling);
}

std::vector<std::string> HfConfig::check_all_read(const std::string& family) const {
  std::vector<std::string> unknown, off;
  for (const auto& [key, value] : json_.items()) {
    if (read_.contains(key)) continue;
    const bool is_off = value.is_null() || value == false;
    (is_off ? off : unknown).push_back(fmt::format("'{}' ({})", key, value.dump()));
  }
  check(unknown.empty(),
        "Expected the options of a {} model in {}, but got {}, which that family does not have "
        "here; remove what has no effect on the model",
        family, path_, fmt::join(unknown, ", "));
  return off;
}

}  // namespace megatron
