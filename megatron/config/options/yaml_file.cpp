#include "megatron/config/options/yaml_file.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "megatron/base/nearest_name.h"
#include "megatron/config/options/unknown_options.h"

namespace megatron {
namespace {

class YamlReader {
 public:
  YamlReader(std::string file, Command command, Assignments& assignments)
      : file_(std::move(file)), command_(command), assignments_(assignments) {}

  void read_top(const YAML::Node& top) {
    if (top.IsNull()) return;  // an empty file
    if (!top.IsMap())
      fail_at(top, "Expected keys with values (num_layers: 12), but got no mapping");
    for (const auto& entry : top) {
      if (!entry.second.IsMap()) {
        find_entry(entry.first, entry.second);
        continue;
      }
      check_section(entry.first);
      for (const auto& inner : entry.second) {
        if (inner.second.IsMap()) {
          fail_at(inner.first, "Expected one level of sections, but got section '{}' within '{}'",
                  scalar(inner.first), scalar(entry.first));
        }
        find_entry(inner.first, inner.second);
      }
    }
    refuse_unknown();
    for (const Entry& entry : entries_) read_entry(entry);
    for (const EffectlessEntry& entry : effectless_) accept_entry(entry);
  }

 private:
  struct Entry {
    OptionTable::Key option;
    YAML::Node key;
    YAML::Node value;
  };

  // A flag of Megatron-LM that has no effect here.
  struct EffectlessEntry {
    MegatronLmFlag flag;
    YAML::Node key;
    YAML::Node value;
  };

  template <typename... Args>
  [[noreturn]] void fail_at(const YAML::Node& node, fmt::format_string<Args...> text,
                            Args&&... args) const {
    throw UsageError(fmt::format("{}, line {}: {}", file_, node.Mark().line + 1,
                                 fmt::format(text, std::forward<Args>(args)...)));
  }

  std::string scalar(const YAML::Node& node) const {
    if (!node.IsScalar()) fail_at(node, "Expected a single value, but got a list or a mapping");
    // "?": plain, "!": quoted.
    const std::string& tag = node.Tag();
    if (!tag.empty() && tag != "?" && tag != "!" && !tag.starts_with("tag:yaml.org,2002:"))
      fail_at(node, "Expected a plain value, but got the tag {}; leave it out", tag);
    return node.Scalar();
  }

  // Any section may hold any option. A name that is not a section is an error.
  void check_section(const YAML::Node& name) const {
    std::vector<std::string> known = {"transformer_config", "gpt_model", "optimizer", "ddp",
                                      "checkpoint",         "layout"};
    for (const Option& option : option_table().options()) {
      std::string section = with_underscores(option.section);
      for (char& c : section) c = c == ' ' ? '_' : static_cast<char>(std::tolower(c));
      if (std::find(known.begin(), known.end(), section) == known.end()) known.push_back(section);
    }
    const std::string section = with_underscores(scalar(name));
    if (std::find(known.begin(), known.end(), section) != known.end()) return;
    fail_at(name, "Expected the name of a section or of an option, but got '{}'{}", scalar(name),
            nearest_hint(section, known));
  }

  // Keys are checked before values, so that all unknown keys are reported together.
  void find_entry(const YAML::Node& key_node, const YAML::Node& value) {
    const std::string key = scalar(key_node);
    const OptionTable::Key found = option_table().find_key(key);
    if (found.option != nullptr &&
        (found.option->name() == "config_file" || found.option->name() == "recipe")) {
      fail_at(key_node, "Expected options, but got '{}'; a file cannot include another", key);
    }
    if (found.option != nullptr && contains(found.option->taken_by, command_)) {
      entries_.push_back({found, key_node, value});
      return;
    }
    const auto known = find_megatron_lm_flag(key);
    if (found.option == nullptr && known && known->fate == MegatronLmFate::no_effect &&
        accepts_effectless_flags(command_)) {
      effectless_.push_back({*known, key_node, value});
      return;
    }
    unknown_.push_back(
        {.name = key,
         .shown = fmt::format("'{}'", key),
         .nearest = nearest_hint(with_underscores(key), option_table().keys_of(command_))});
    unknown_lines_.push_back(key_node.Mark().line + 1);
  }

  void refuse_unknown() {
    const bool one = unknown_.size() == 1;
    for (size_t i = 0; i < unknown_.size() && !one; ++i)
      unknown_[i].shown = fmt::format("{} in line {}", unknown_[i].name, unknown_lines_[i]);
    refuse_unknown_options(
        command_,
        {.noun = "an option",
         .one = "the name of an option",
         .many = fmt::format("options of megatron {}", command_name(command_)),
         .where = one ? fmt::format("{}, line {}: ", file_, unknown_lines_.front()) : file_ + ": "},
        unknown_);
  }

  void read_entry(const Entry& entry) const {
    const auto& [found, key_node, value] = entry;
    const auto [option, inverted] = found;
    const std::string key = scalar(key_node);
    if (value.IsNull()) {
      // Null is accepted for fields that have no default value.
      if (!option->is_shorthand() && to_text(option->value(scratch_)) == "-") return;
      fail_at(key_node, "Expected a value for {}, but got none; give one or leave it out", key);
    }
    std::vector<std::string> texts;
    const bool list = !option->is_shorthand() && is_list(option->value(scratch_));
    if (value.IsSequence() && list) {
      for (const auto& item : value) texts.push_back(scalar(item));
    } else if (value.IsSequence()) {
      fail_at(value, "Expected a single value for {}, but got a list", key);
    } else {
      texts.push_back(scalar(value));
    }
    try {
      assignments_.assign(*option, inverted, texts, key);
    } catch (const UsageError& error) {
      fail_at(key_node, "{}", error.what());
    }
  }

  void accept_entry(const EffectlessEntry& entry) const {
    const std::string key = scalar(entry.key);
    if (entry.value.IsNull())
      fail_at(entry.key, "Expected a value for {}, but got none; give one or leave it out", key);
    try {
      assignments_.accept(entry.flag, scalar(entry.value), key);
    } catch (const UsageError& error) {
      fail_at(entry.key, "{}", error.what());
    }
  }

  std::string file_;
  Command command_;
  Assignments& assignments_;
  std::vector<Entry> entries_;
  std::vector<EffectlessEntry> effectless_;
  std::vector<UnknownOption> unknown_;
  std::vector<int> unknown_lines_;
  mutable Options scratch_;  // for the types of fields
};

}  // namespace

void read_yaml_text(const std::string& text, const std::string& name, Command command,
                    Assignments& assignments) {
  try {
    YamlReader(name, command, assignments).read_top(YAML::Load(text));
  } catch (const YAML::Exception& error) {
    throw UsageError(fmt::format("Expected YAML in {}, but got in line {}: {}", name,
                                 error.mark.line + 1, error.msg));
  }
}

void read_yaml_file(const std::filesystem::path& path, Command command, Assignments& assignments) {
  if (std::filesystem::is_directory(path)) {
    throw UsageError(fmt::format("Expected a YAML file for --config, but got the directory '{}'",
                                 path.string()));
  }
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAllFromFile(path.string());
    if (documents.size() > 1) {
      throw UsageError(
          fmt::format("Expected one YAML document in {}, but got {}; remove the '---' lines",
                      path.string(), documents.size()));
    }
    if (!documents.empty()) YamlReader(path.string(), command, assignments).read_top(documents[0]);
  } catch (const YAML::BadFile&) {
    throw UsageError(
        fmt::format("Expected a readable YAML file for --config, but got '{}'", path.string()));
  } catch (const YAML::Exception& error) {
    throw UsageError(fmt::format("Expected YAML in {}, but got in line {}: {}", path.string(),
                                 error.mark.line + 1, error.msg));
  }
}

}  // namespace megatron
