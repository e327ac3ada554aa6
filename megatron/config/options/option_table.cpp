#include "megatron/config/options/option_table.h"

#include <algorithm>

namespace megatron {

std::string with_underscores(std::string_view name) {
  std::string result(name);
  std::replace(result.begin(), result.end(), '-', '_');
  return result;
}

std::string Option::display() const {
  if (!positional) return "--" + flag;
  std::string name = flag;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

OptionTable::OptionTable() {
  add_model_options(*this);
  add_layout_options(*this);
  add_tensor_parallel_options(*this);
  add_pipeline_options(*this);
  add_moe_options(*this);
  add_optimizer_options(*this);
  add_training_options(*this);
  add_profile_options(*this);
  add_tool_options(*this);
}

void OptionTable::append(Option option, const std::string& section, CommandSet taken_by,
                         const Option& defaults) {
  option.section = section;
  if (option.field.empty()) option.field = with_underscores(option.flag);
  if (option.taken_by == 0) option.taken_by = taken_by;
  // plan and verify-layout accept the command line and the file of the training run they examine.
  if (contains(option.taken_by, Command::train))
    option.taken_by |= commands(Command::plan, Command::verify_layout);
  option.differs_between_runs |= defaults.differs_between_runs;
  if (option.between_ranks == RankAgreement::same) option.between_ranks = defaults.between_ranks;
  option.architecture |= defaults.architecture;
  option.extends_context |= defaults.extends_context;
  options_.push_back(std::move(option));
}

const Option* OptionTable::find_flag(std::string_view flag) const {
  while (flag.starts_with('-')) flag.remove_prefix(1);
  for (const Option& option : options_) {
    if (option.positional) continue;
    if (option.flag == flag || std::find(option.flag_aliases.begin(), option.flag_aliases.end(),
                                         flag) != option.flag_aliases.end()) {
      return &option;
    }
  }
  return nullptr;
}

const Option* OptionTable::find_field(std::string_view field) const {
  for (const Option& option : options_) {
    if (option.is_shorthand()) continue;
    if (option.field == field || std::find(option.field_aliases.begin(), option.field_aliases.end(),
                                           field) != option.field_aliases.end()) {
      return &option;
    }
  }
  return nullptr;
}

OptionTable::Key OptionTable::find_key(std::string_view key) const {
  const std::string name = with_underscores(key);
  if (const Option* option = find_field(name)) return {option, false};
  for (const Option& option : options_) {
    if (with_underscores(option.flag) == name) return {&option, option.inverted};
    for (const auto& alias : option.flag_aliases) {
      if (with_underscores(alias) == name) return {&option, option.inverted};
    }
  }
  return {};
}

std::vector<std::string> OptionTable::flags_of(Command command) const {
  std::vector<std::string> result;
  for (const Option& option : options_) {
    if (option.positional || !contains(option.taken_by, command)) continue;
    result.push_back("--" + option.flag);
    for (const auto& alias : option.flag_aliases) result.push_back("--" + alias);
  }
  return result;
}

std::vector<std::string> OptionTable::keys_of(Command command) const {
  std::vector<std::string> result;
  for (const Option& option : options_) {
    if (!contains(option.taken_by, command)) continue;
    result.push_back(with_underscores(option.flag));
    if (option.field != result.back()) result.push_back(option.field);
  }
  return result;
}

std::vector<std::string> OptionTable::fields() const {
  std::vector<std::string> result;
  for (const Option& option : options_) {
    if (!option.is_shorthand()) result.push_back(option.field);
  }
  return result;
}

const OptionTable& option_table() {
  static const OptionTable table;
  return table;
}

}  // namespace megatron
