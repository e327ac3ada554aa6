#include "megatron/config/options/options_help.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

constexpr int kLeastWidth = 60;
constexpr int kMostWidth = 120;
constexpr int kHelpColumn = 34;

// Breaks `text` between words into lines of at most `width` columns.
std::vector<std::string> wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines(1);
  size_t start = 0;
  while (start < text.size()) {
    size_t end = text.find(' ', start);
    if (end == std::string::npos) end = text.size();
    const std::string word = text.substr(start, end - start);
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width)
      lines.emplace_back();
    if (!lines.back().empty()) lines.back() += ' ';
    lines.back() += word;
    start = end + 1;
  }
  return lines;
}

// "  left      right" with the right column wrapped. A long left column gets its own line.
std::string two_columns(const std::string& left, const std::string& right, int column, int width) {
  std::string result = "  " + left;
  const auto indent = static_cast<size_t>(column);
  const auto lines = wrap(right, static_cast<size_t>(width - column));
  size_t first = 0;
  if (result.size() + 2 <= indent && !lines.empty()) {
    result.resize(indent, ' ');
    result += lines[first++];
  }
  result += '\n';
  for (; first < lines.size(); ++first) result += std::string(indent, ' ') + lines[first] + '\n';
  return result;
}

std::string hint_of(const Option& option, Options& options) {
  if (option.is_shorthand()) return "";
  if (!option.choices.empty()) return fmt::format("{}", fmt::join(option.choices, "|"));
  return type_hint(option.value(options));
}

// The default of the flag: "off" for an inverted flag whose field is true.
std::string default_of(const Option& option, Options& options, CommandSet shown) {
  if (option.is_shorthand()) return "off";
  const FieldValue value = option.value(options);
  if (is_bool(value)) {
    const bool on = *std::get<bool*>(value) != option.inverted;
    return on ? "on" : "off";
  }
  if ((option.required_by & shown) == (option.taken_by & shown)) return "required";
  // verify-layout has a small model of its own.
  if (option.otherwise.starts_with("required") && shown == commands(Command::verify_layout))
    return "not required";
  const std::string text = to_text(value);
  const bool nothing = text == "-" || text == "0";
  if (nothing && !option.otherwise.empty()) return option.otherwise;
  return text == "-" ? "none" : text;
}

std::string flag_names(const Option& option) {
  std::string names = option.display();
  for (const auto& alias : option.flag_aliases) names += ", --" + alias;
  return names;
}

std::string option_help(const Option& option, Options& options, CommandSet shown, int width) {
  std::string left = flag_names(option);
  const std::string hint = hint_of(option, options);
  if (!hint.empty() && !option.positional) left += " " + hint;
  std::string notes;
  if (!option.unit.empty()) notes = option.unit + "; ";
  const std::string value = default_of(option, options, shown);
  const bool says_required = value.starts_with("required") || value == "not required";
  notes += says_required ? value : "default: " + value;
  return two_columns(left, fmt::format("{} [{}]", option.help, notes), kHelpColumn, width);
}

// Sections in the order of the table, without duplicates.
std::vector<std::string> sections_of(CommandSet taken_by) {
  std::vector<std::string> sections;
  for (const Option& option : option_table().options()) {
    if ((option.taken_by & taken_by) == 0) continue;
    if (std::find(sections.begin(), sections.end(), option.section) == sections.end()) {
      sections.push_back(option.section);
    }
  }
  return sections;
}

std::string options_help(CommandSet taken_by, int width) {
  Options defaults;
  std::string result;
  for (const auto& section : sections_of(taken_by)) {
    result += "\n" + section + "\n";
    for (const Option& option : option_table().options()) {
      if (option.section != section || (option.taken_by & taken_by) == 0) continue;
      result += option_help(option, defaults, taken_by, width);
    }
  }
  return result;
}

std::string usage_of(Command command) {
  std::string usage = fmt::format("Usage: megatron {}", command_name(command));
  for (const Option& option : option_table().options()) {
    if (option.positional && contains(option.taken_by, command)) usage += " " + option.display();
  }
  return usage + " [flags]\n";
}

int usable_width(int width) {
  return std::clamp(width, kLeastWidth, kMostWidth);
}

std::string escape_cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, "\\");
  }
  return text;
}

}  // namespace

std::string program_help(int width) {
  width = usable_width(width);
  std::string result = "Usage: megatron SUBCOMMAND [flags]\n\n";
  result += "Trains and runs GPT models with tensor, pipeline, context and data parallelism.\n\n";
  result += "Subcommands\n";
  for (const Command command : kCommands) {
    result += two_columns(std::string(command_name(command)), std::string(command_summary(command)),
                          /*column=*/17, width);
  }
  result += "\nFlags\n";
  result += two_columns("--help", "Show this help; after a subcommand, its flags", 17, width);
  result += two_columns("--version", "Show the versions of the program and of libtorch", 17, width);
  return result;
}

std::string command_help(Command command, int width) {
  width = usable_width(width);
  std::string result = usage_of(command) + "\n";
  for (const auto& line :
       wrap(std::string(command_summary(command)) + ".", static_cast<size_t>(width))) {
    result += line + "\n";
  }
  return result + options_help(commands(command), width);
}

std::string all_options_help(int width) {
  return options_help(~CommandSet{0}, usable_width(width));
}

std::string options_markdown() {
  Options defaults;
  std::string page =
      "# Options\n\n"
      "Generated from the option table by `megatron options --markdown > docs/options.md`; a test "
      "compares the two.\n\n"
      "Syntax: `--flag value` or `--flag=value`. A switch also accepts `=true` and `=false`. A "
      "YAML "
      "file (`--config FILE`) holds the same names without leading dashes, or the field names. "
      "Sections named as below (`learning_rate`) may group them; any section may hold any option. "
      "Flags override the file. The field of an inverted flag is true by default, and `false` in a "
      "file is the same as the flag.\n\n"
      "| subcommand | description |\n|---|---|\n";
  for (const Command command : kCommands) {
    page += fmt::format("| `{}` | {} |\n", command_name(command), command_summary(command));
  }
  for (const auto& section : sections_of(~CommandSet{0})) {
    page += fmt::format(
        "\n## {}\n\n| flag | field | value | default | unit | description | subcommands |\n"
        "|---|---|---|---|---|---|---|\n",
        section);
    for (const Option& option : option_table().options()) {
      if (option.section != section) continue;
      const std::string hint = option.positional ? "TEXT" : hint_of(option, defaults);
      page +=
          fmt::format("| `{}` | {} | {} | {} | {} | {} | {} |\n", flag_names(option),
                      option.is_shorthand() ? "" : "`" + option.field + "`", escape_cell(hint),
                      option.inverted ? "off; field: true"
                                      : escape_cell(default_of(option, defaults, ~CommandSet{0})),
                      option.unit, escape_cell(option.help), command_list(option.taken_by));
    }
  }
  return page;
}

}  // namespace megatron
