#include "megatron/config/options/assignments.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace megatron {

void Assignments::assign(const Option& option, bool inverted, const std::vector<std::string>& texts,
                         const std::string& subject) {
  if (!option.is_shorthand()) return assign_field(option, inverted, texts, subject);
  bool on = false;
  for (const auto& text : texts) set_from_text(&on, text, subject);
  if (!on) return;
  given_.insert(option.name());
  for (const auto& [field, text] : option.sets) {
    assign_field(*option_table().find_field(field), /*inverted=*/false, {text}, subject);
  }
}

void Assignments::assign_field(const Option& option, bool inverted,
                               const std::vector<std::string>& texts, const std::string& subject) {
  const FieldValue value = option.value(options_);
  if (is_list(value)) {
    if (!settings_.contains(option.name())) {
      clear_list(value);
      settings_[option.name()] = {subject, nullptr};
    }
    for (const auto& text : texts) set_from_text(value, text, subject);
    given_.insert(option.name());
    return;
  }
  for (const auto& text : texts) {
    if (!option.choices.empty() &&
        std::find(option.choices.begin(), option.choices.end(), text) == option.choices.end()) {
      throw UsageError(fmt::format("Expected one of {} for {}, but got '{}'",
                                   fmt::join(option.choices, ", "), subject, text));
    }
    set_from_text(value, text, subject);
    if (inverted) {
      bool& field = *std::get<bool*>(value);
      field = !field;
    }
    record(option, subject);
  }
}

void Assignments::accept(const MegatronLmFlag& flag, const std::string& value,
                         const std::string& subject) {
  check_accepted_value(flag, value, subject);
  const auto [found, is_new] =
      accepted_.emplace(std::string(flag.name), flag.values > 0 ? value : "");
  if (is_new || flag.values == 0 || found->second == value) return;
  throw UsageError(fmt::format("Expected one value for {}, but got both {} and {}; give it once",
                               subject, found->second, value));
}

void Assignments::record(const Option& option, const std::string& subject) {
  given_.insert(option.name());
  const nlohmann::json value = to_json(option.value(options_));
  const auto [found, is_new] = settings_.emplace(option.name(), Setting{subject, value});
  if (is_new || found->second.value == value) return;
  if (found->second.subject == subject) {
    throw UsageError(fmt::format("Expected one value for {}, but got both {} and {}; give it once",
                                 subject, found->second.value.dump(), value.dump()));
  }
  throw UsageError(fmt::format("Expected {} or {}, but got both: they set {} to {} and {}",
                               found->second.subject, subject, option.name(),
                               found->second.value.dump(), value.dump()));
}

void derive_from_shorthands(Options& options, const std::set<std::string>& given) {
  for (const Option& option : option_table().options()) {
    if (option.derive && given.contains(option.name())) option.derive(options, given);
  }
}

}  // namespace megatron
