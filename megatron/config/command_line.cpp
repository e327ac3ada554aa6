#include "megatron/config/command_line.h"

#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "megatron/base/dtype.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/assignments.h"
#include "megatron/config/megatron_lm_flags.h"
#include "megatron/config/yaml_file.h"

namespace megatron {
namespace {

struct ParsedFlag {
  const Option* option;
  const CLI::Option* parsed;
};

std::vector<ParsedFlag> declare_flags(CLI::App& app, Command command) {
  Options scratch;
  std::vector<ParsedFlag> flags;
  for (const Option& option : option_table().options()) {
    if (!contains(option.taken_by, command)) continue;
    std::string names = option.positional ? option.flag : "--" + option.flag;
    for (const auto& alias : option.flag_aliases) names += ",--" + alias;
    if (option.is_shorthand() || is_bool(option.value(scratch))) {
      flags.push_back({&option, app.add_flag(names)->take_all()});
    } else {
      CLI::Option* parsed = app.add_option(names);
      if (is_list(option.value(scratch))) {
        parsed->expected(CLI::detail::expected_max_vector_size);
      } else {
        parsed->expected(1);
      }
      flags.push_back({&option, parsed->take_all()});
    }
  }
  return flags;
}

[[noreturn]] void fail_unknown(Command command, const std::string& argument) {
  if (!argument.starts_with('-') || argument.size() < 2) {
    throw UsageError(fmt::format("Expected a flag of megatron {}, but got '{}'",
                                 command_name(command), argument));
  }
  const std::string flag = argument.substr(0, argument.find('='));
  if (const Option* other = option_table().find_flag(flag);
      other != nullptr && flag.starts_with("--") && !contains(other->taken_by, command)) {
    throw UsageError(fmt::format("Expected a flag of megatron {}, but got {}, which is one of: {}",
                                 command_name(command), flag, command_list(other->taken_by)));
  }
  if (is_megatron_lm_flag(flag)) {
    throw UsageError(
        fmt::format("Expected a flag of megatron {}, but got {}, which is Megatron-LM's and not in "
                    "this version; README.md says what is",
                    command_name(command), flag));
  }
  const std::string hint = nearest_hint(flag, option_table().flags_of(command));
  throw UsageError(fmt::format(
      "Expected a flag of megatron {}, but got {}{}", command_name(command), flag,
      hint.empty() ? fmt::format("; megatron {} --help lists them", command_name(command)) : hint));
}

void parse_arguments(CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    throw UsageError(
        fmt::format("Expected a value behind {}, but got none", text.substr(0, text.find(':'))));
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("Expected flags with their values, but got: {}", error.what()));
  }
}

void check_nothing_left(const CLI::App& app, Command command) {
  const std::vector<std::string> extra = app.remaining();
  if (extra.empty()) return;
  // A flag that nobody knows leaves its value behind too; the flag is what to talk about.
  const auto flag = std::find_if(extra.begin(), extra.end(),
                                 [](const auto& argument) { return argument.starts_with('-'); });
  fail_unknown(command, flag == extra.end() ? extra.front() : *flag);
}

// What only the given names tell apart from defaults.
void check_contradictions(const ParsedCommand& parsed) {
  const TransformerConfig& config = parsed.options.model.transformer;
  if (parsed.is_given("bf16") && parsed.is_given("params_dtype") &&
      config.bf16 != (config.params_dtype == at::kBFloat16)) {
    throw UsageError(
        fmt::format("Expected --bf16 or --params-dtype {}, but got both{}; leave one out",
                    dtype_name(config.params_dtype), config.bf16 ? "" : " (bf16 off)"));
  }
  if (parsed.is_given("pipeline_model_parallel_layout") &&
      config.pipeline.pipeline_model_parallel_layout.empty()) {
    throw UsageError(
        "Expected stages behind --pipeline-model-parallel-layout, as in Et*3|t*3L, but got an "
        "empty "
        "text; leave it out for an even split");
  }
  for (const auto& [name, folder] : {std::pair{"save", &parsed.options.checkpoint.save},
                                     std::pair{"load", &parsed.options.checkpoint.load}}) {
    if (parsed.is_given(name) && folder->empty()) {
      throw UsageError(fmt::format(
          "Expected a folder behind --{}, but got an empty text; leave --{} out", name, name));
    }
  }
}

void check_required(Command command, const std::set<std::string>& given) {
  for (const Option& option : option_table().options()) {
    if (!contains(option.required_by, command) || given.contains(option.name())) continue;
    throw UsageError(fmt::format("Expected {} for megatron {}, but got none: {}", option.display(),
                                 command_name(command), option.help));
  }
}

}  // namespace

ParsedCommand parse_options(Command command, const std::vector<std::string>& arguments) {
  CLI::App app;
  app.set_help_flag("");
  app.allow_extras();
  const std::vector<ParsedFlag> flags = declare_flags(app, command);
  parse_arguments(app, arguments);

  ParsedCommand result;
  result.command = command;
  Assignments from_flags(result.options, result.given);
  Assignments from_file(result.options, result.given);
  for (const auto& [option, parsed] : flags) {
    if (option->name() != "config_file" || parsed->count() == 0) continue;
    from_flags.assign(*option, /*inverted=*/false, parsed->results(), option->display());
    read_yaml_file(result.options.config_file, command, from_file);
  }
  for (const auto& [option, parsed] : flags) {
    if (parsed->count() == 0) continue;
    from_flags.assign(*option, option->inverted, parsed->results(), option->display());
  }
  check_nothing_left(app, command);
  derive_from_shorthands(result.options, result.given);
  check_contradictions(result);
  check_required(command, result.given);
  return result;
}

}  // namespace megatron
