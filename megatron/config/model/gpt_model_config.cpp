#include "megatron/config/model/gpt_model_config.h"

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/config_fields.h"
#include "megatron/config/model/config_yaml.h"
#include "megatron/config/model/fixed_fields.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {

int64_t GPTModelConfig::required_vocab_size() const {
  check(vocab_size.has_value() && *vocab_size > 0,
        "Expected vocab_size of at least 1, which is required to build a model, but got {}; set "
        "the tokenizer's size, as 50257 for GPT-2",
        vocab_size ? std::to_string(*vocab_size) : "none");
  return *vocab_size;
}

int64_t GPTModelConfig::padded_vocab_size() const {
  const int64_t size = required_vocab_size();
  if (!should_pad_vocab) return size;
  const int64_t tp = transformer.tensor_model_parallel_size;
  check(make_vocab_size_divisible_by > 0 && tp > 0,
        "Expected make_vocab_size_divisible_by and tensor_model_parallel_size of at least 1, but "
        "got {} and {}; 128 and 1 work",
        make_vocab_size_divisible_by, tp);
  return round_up(size, make_vocab_size_divisible_by * tp);
}

void GPTModelConfig::finalize() {
  TransformerConfig& t = transformer;
  if (t.tensor_model_parallel_size <= 1) t.sequence_parallel = false;
  Problems problems;
  check_model(*this, problems);
  problems.throw_if_any();
}

namespace {

// Members without a value that JSON could hold.
void check_has_value(std::string_view name) {
  check(name != "pre_wrap_hooks" && name != "post_wrap_hooks",
        "Expected a field with a value, but got '{}', which holds functions; the member of the "
        "configuration works",
        name);
  check(
      name != "transformer",
      "Expected a field with a value, but got 'transformer', which holds fields; each of them has "
      "its own name, such as hidden_size");
}

}  // namespace

nlohmann::json GPTModelConfig::get(std::string_view name) const {
  check_has_value(name);
  if (name == "builder") return builder;
  const TransformerConfig& t = transformer;
  if (name == "pipeline_dtype" && !t.pipeline_dtype && t.pipeline_model_parallel_size > 1)
    return dtype_name(t.compute_dtype());
  const ConfigFields fields = fields_of(const_cast<GPTModelConfig&>(*this));  // only read
  if (fields.find(name) == nullptr) {
    if (const FixedField* field = find_fixed_field(name, nullptr)) return field->value;
  }
  return to_json(fields.at(name));
}

void GPTModelConfig::set(std::string_view name, const nlohmann::json& value) {
  check_has_value(name);
  if (name == "builder") return set_from_json(&builder, value, name);
  const ConfigFields fields = fields_of(*this);
  if (fields.find(name) == nullptr && find_fixed_field(name, value) != nullptr) return;
  set_field(fields.at(name), name, value);
}

nlohmann::json GPTModelConfig::as_dict() const {
  return config_as_dict(*this);
}

GPTModelConfig GPTModelConfig::from_dict(const nlohmann::json& json) {
  return config_from_dict<GPTModelConfig>(json);
}

std::string GPTModelConfig::to_yaml() const {
  return json_to_yaml(as_dict());
}

GPTModelConfig GPTModelConfig::from_yaml(const std::string& text) {
  return from_dict(yaml_to_json(text));
}

void GPTModelConfig::reset_layout() {
  if (should_pad_vocab) make_vocab_size_divisible_by *= transformer.tensor_model_parallel_size;
  tp_comm_overlap_cfg = {};
  transformer.reset_layout();
}

}  // namespace megatron
