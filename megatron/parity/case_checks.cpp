#include "megatron/parity/case_checks.h"

#include <algorithm>
#include <map>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/options/option_table.h"
#include "megatron/config/options/options_json.h"

namespace megatron {
namespace {

constexpr const char* kStepResults[] = {"step_loss", "step_grad_norm"};

int64_t check_size(const nlohmann::json& json, const char* field) {
  check(json.contains(field), "Expected the field '{}' in the case, but found none", field);
  const nlohmann::json& value = json[field];
  check(value.is_number_integer() && value.get<int64_t>() >= 1,
        "Expected an integer of at least 1 for the field '{}' of the case, but got {}", field,
        value.dump());
  return value.get<int64_t>();
}

void check_number(const nlohmann::json& value, const std::string& field) {
  check(value.is_number(), "Expected a number for '{}' of the case, but got {}", field,
        value.dump());
}

// A flag and two scales a step, and what the peer's scaled gradients were.
void check_scaler(const nlohmann::json& scaler, size_t steps) {
  check(scaler.is_object(), "Expected an object for 'scaler' of the case, but got {}",
        scaler.dump());
  for (const auto& [field, values] : scaler.items()) {
    check(
        field == "applied" || field == "loss_scale" || field == "loss_scale_before" ||
            field == "max_abs_scaled_grad",
        "Expected only applied, loss_scale, loss_scale_before and max_abs_scaled_grad in 'scaler' "
        "of the case, but got '{}'",
        field);
  }
  for (const char* field : {"applied", "loss_scale", "loss_scale_before"}) {
    const nlohmann::json values = scaler.value(field, nlohmann::json());
    check(values.is_array() && values.size() == steps,
          "Expected {} values in 'scaler.{}' of the case, one a step, but got {}", steps, field,
          values.dump());
    for (const nlohmann::json& value : values) {
      check(std::string_view(field) == "applied" ? value.is_boolean() : value.is_number(),
            "Expected {} in 'scaler.{}' of the case, but got {}",
            std::string_view(field) == "applied" ? "true or false" : "numbers", field,
            value.dump());
    }
  }
}

// Each parameter must have sum, l2 and moved_l2, and nothing else.
void check_weight_statistics(const nlohmann::json& statistics) {
  check(statistics.is_object(), "Expected an object for 'weight_after3' of the case, but got {}",
        statistics.dump());
  for (const auto& [name, numbers] : statistics.items()) {
    const std::string where = "weight_after3." + name;
    check(numbers.is_object(), "Expected an object for '{}' of the case, but got {}", where,
          numbers.dump());
    for (const char* field : {"sum", "l2", "moved_l2"}) {
      check(numbers.contains(field), "Expected '{}' in '{}' of the case, but found none", field,
            where);
      check_number(numbers[field], where + "." + field);
    }
    for (const auto& [field, number] : numbers.items()) {
      check(field == "sum" || field == "l2" || field == "moved_l2",
            "Expected only sum, l2 and moved_l2 in '{}' of the case, but got '{}'", where, field);
    }
  }
}

using Shape = std::vector<int64_t>;

void check_tensor_shape(const SafetensorsFile& tensors, const std::string& name,
                        const std::vector<Shape>& shapes) {
  const Shape& shape = tensors.entry(name).shape;
  check(std::ranges::find(shapes, shape) != shapes.end(),
        "Expected {} of shape [{}] in {}, but got [{}]", name, fmt::join(shapes.front(), ", "),
        tensors.path().string(), fmt::join(shape, ", "));
}

void check_ids(const SafetensorsFile& tensors, const std::string& name, int64_t bound) {
  const at::Tensor ids = tensors.mapped(name);
  check(at::isIntegralType(ids.scalar_type(), /*includeBool=*/false),
        "Expected integers in {} of {}, but got {}", name, tensors.path().string(),
        c10::toString(ids.scalar_type()));
  const int64_t least = ids.min().item<int64_t>(), most = ids.max().item<int64_t>();
  check(least >= 0 && most < bound,
        "Expected ids of at least 0 and below {} in {} of {}, but got {}", bound, name,
        tensors.path().string(), least < 0 ? least : most);
}

void check_loss_mask(const nlohmann::json& json, const SafetensorsFile& tensors) {
  const at::Tensor mask = tensors.tensor("input/loss_mask").to(at::kDouble);
  const bool all_ones = mask.eq(1).all().item<bool>();
  const bool random = json.value("loss_mask", "ones") == "random";
  check(
      random ? !all_ones && mask.eq(1).logical_or(mask.eq(0)).all().item<bool>() : all_ones,
      "Expected {} in input/loss_mask of {}, as the field 'loss_mask' says, but got other numbers",
      random ? "zeros and ones" : "ones only", tensors.path().string());
}

const void* address_of(const FieldValue& value) {
  return std::visit(
      [](const auto& field) -> const void* {
        if constexpr (requires { field.field; }) {
          return field.field;
        } else {
          return field;
        }
      },
      value);
}

template <typename Struct>
bool lies_within(const void* field, const Struct& structure) {
  const auto begin = reinterpret_cast<uintptr_t>(&structure);
  const auto at = reinterpret_cast<uintptr_t>(field);
  return at >= begin && at < begin + sizeof(Struct);
}

// Whether the peer's structure behind that section has the field.
bool is_field_of(Options& options, const std::string& section, const Option& option) {
  const void* field = address_of(option.value(options));
  const bool of_transformer = lies_within(field, options.model.transformer);
  const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
    return std::ranges::find(names, option.name()) != names.end();
  };
  if (section == "transformer_config") {
    // These three exist in both structures.
    if (is_one_of({"position_embedding_type", "rotary_base", "rotary_percent"})) return true;
    return of_transformer && option.section != "Parallelism";
  }
  if (section == "gpt_model") {
    return !of_transformer && lies_within(field, options.model) &&
           !is_one_of({"seq_length", "make_vocab_size_divisible_by", "should_pad_vocab"});
  }
  if (section == "optimizer") {
    return lies_within(field, options.optimizer) &&
           (contains(option.taken_by, Command::bench) || option.name() == "min_lr");
  }
  return lies_within(field, options.ddp);
}

}  // namespace

void check_case_fields(const nlohmann::json& json) {
  const auto steps = static_cast<size_t>(check_size(json, "steps"));
  for (const char* field : {"num_microbatches", "micro_batch_size", "seq_length"}) {
    check_size(json, field);
  }
  check_size(json["gpt_model"], "vocab_size");
  check(json["optimizer"].contains("lr"),
        "Expected 'lr' in 'optimizer' of the case, but found none");
  check_number(json["optimizer"]["lr"], "optimizer.lr");
  for (const char* field : {"case", "loss_mask"}) {
    check(!json.contains(field) || json[field].is_string(),
          "Expected a string for the field '{}' of the case, but got {}", field,
          json.value(field, nlohmann::json()).dump());
  }
  for (const char* section : {"resolved", "ddp"}) {
    check(!json.contains(section) || json[section].is_object(),
          "Expected an object for the field '{}' of the case, but got {}", section,
          json.value(section, nlohmann::json()).dump());
  }
  if (json.contains("resolved") && json["resolved"].contains("mup_width_mult")) {
    check_number(json["resolved"]["mup_width_mult"], "resolved.mup_width_mult");
  }
  const nlohmann::json scaler = json.value("scaler", nlohmann::json());
  if (!scaler.is_null()) check_scaler(scaler, steps);
  for (const char* field : kStepResults) {
    if (!json.contains(field)) continue;
    check(json[field].is_array() && json[field].size() == steps,
          "Expected {} numbers in the field '{}' of the case, one a step, but got {}", steps, field,
          json[field].dump());
    for (size_t i = 0; i < steps; ++i) {
      // A step that overflowed has no norm.
      const bool overflowed =
          std::string_view(field) == "step_grad_norm" && json[field][i].is_null();
      if (overflowed && !scaler.is_null() && !scaler["applied"][i].get<bool>()) continue;
      check_number(json[field][i], fmt::format("{}[{}]", field, i));
    }
  }
  if (!json.contains("weight_after3")) return;
  check_weight_statistics(json["weight_after3"]);
  check(json["weight_after3"].empty() || steps >= 3,
        "Expected 'steps' of at least 3 in a case with 'weight_after3', but got {}", steps);
}

void check_case_tensors(const nlohmann::json& json, const SafetensorsFile& tensors) {
  const int64_t steps = json["steps"].get<int64_t>(),
                microbatches = json["num_microbatches"].get<int64_t>(),
                b = json["micro_batch_size"].get<int64_t>(), s = json["seq_length"].get<int64_t>(),
                vocab = json["gpt_model"]["vocab_size"].get<int64_t>();
  const Shape all_inputs{steps, microbatches, b, s};
  check(tensors.contains("input/tokens") == tensors.contains("input/labels"),
        "Expected both input/tokens and input/labels in {}, or neither, but got one of them",
        tensors.path().string());
  for (const char* name : {"input/tokens", "input/labels"}) {
    if (!tensors.contains(name)) continue;
    check_tensor_shape(tensors, name, {all_inputs});
    check_ids(tensors, name, vocab);
  }
  if (tensors.contains("input/loss_mask")) {
    check_tensor_shape(tensors, "input/loss_mask", {all_inputs});
    check_loss_mask(json, tensors);
  }
  if (tensors.contains("input/position_ids")) {
    check_tensor_shape(tensors, "input/position_ids", {{b, s}, {3, b, s}});
    const nlohmann::json longest = json["gpt_model"].value("max_sequence_length", nlohmann::json());
    check_ids(tensors, "input/position_ids", longest.is_number() ? longest.get<int64_t>() : s);
  }
  if (tensors.contains("input/attention_mask")) {
    check_tensor_shape(tensors, "input/attention_mask",
                       {{b, 1, s, s}, {1, 1, s, s}, {b, s, s}, {1, s, s}});
    check(json.contains("attention_mask") && !json["attention_mask"].is_null(),
          "Expected no input/attention_mask in {}: the field 'attention_mask' names none",
          tensors.path().string());
  }
  for (const char* name : kStepResults) {
    if (tensors.contains(name)) check_tensor_shape(tensors, name, {{steps}});
  }
  if (tensors.contains("mean_loss")) check_tensor_shape(tensors, "mean_loss", {{microbatches}});

  bool has_results = json.contains("step_loss") || json.contains("step_grad_norm") ||
                     !json.value("weight_after3", nlohmann::json::object()).empty();
  for (const std::string& name : tensors.names()) {
    has_results |= !name.starts_with("input/") && !name.starts_with("weight/");
    check(steps >= 3 || !(name.starts_with("weight_after3/") || name.starts_with("main_after3/")),
          "Expected 'steps' of at least 3 in a case with {}, but got {}", name, steps);
  }
  check(has_results, "Expected results to compare with in {} or its JSON file, but found none",
        tensors.path().string());
}

void set_case_options(Options& options, const nlohmann::json& json) {
  std::map<std::string, nlohmann::json> given;
  const auto set = [&](const std::string& section, const std::string& field,
                       const nlohmann::json& value) {
    if (const Option* option = option_table().find_field(field)) {
      const std::string structure = section == "resolved" ? "transformer_config" : section;
      check(
          is_field_of(options, structure, *option),
          "Expected fields of the peer's {} in '{}' of the case, but got '{}', which a case cannot "
          "set there",
          structure, section, field);
      const auto before = given.find(option->name());
      if (before == given.end()) {
        if (!value.is_null()) given.emplace(option->name(), value);
      } else if (before->second != value) {
        fail("Expected one value for '{}' in the case, but got {} and, in '{}', {}", field,
             before->second.dump(), section, value.dump());
      }
      check(field != "min_lr" || value == 0,
            "Expected 'min_lr' of 0 in 'optimizer' of the case, but got {}: every step uses 'lr'",
            value.dump());
    }
    set_field(options, field, value);
  };
  for (const char* section : {"transformer_config", "gpt_model", "optimizer", "ddp"}) {
    if (!json.contains(section)) continue;
    for (const auto& [field, value] : json[section].items()) {
      if (field == "pipeline_dtype") {  // activations travel in the parameters' dtype
        check(value == json[section].value("params_dtype", nlohmann::json()),
              "Expected a pipeline_dtype that equals params_dtype in the case, but got {}",
              value.dump());
        continue;
      }
      set(section, field, value);
    }
  }
  // Derived values of the peer: they must agree. The MuP width is not an option.
  const nlohmann::json resolved = json.value("resolved", nlohmann::json::object());
  for (const auto& [field, value] : resolved.items()) {
    if (field != "mup_width_mult") set("resolved", field, value);
  }
  drop_unused_fields(options.model);  // the peer ignores them
}

}  // namespace megatron
