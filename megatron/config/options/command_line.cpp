#include "megatron/config/options/command_line.h"

#include <algorithm>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "megatron/base/dtype.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/megatron_lm/megatron_lm_flags.h"
#include "megatron/config/options/assignments.h"
#include "megatron/config/options/recipes.h"
#include "megatron/config/options/unknown_options.h"
#include "megatron/config/options/yaml_file.h"

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

void parse_arguments(CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    throw UsageError(
        fmt::format("Expected a value after {}, but got none", text.substr(0, text.find(':'))));
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("Expected flags with their values, but got: {}", error.what()));
  }
}

// The number of `arguments` from `at` on that are values of a flag. For an unknown flag: all up to
// the next flag.
size_t count_values(const std::optional<MegatronLmFlag>& flag,
                    const std::vector<std::string>& arguments, size_t at) {
  const bool bounded = flag && flag->values != MegatronLmFlag::kUpToTheNextFlag;
  const size_t most = bounded ? static_cast<size_t>(flag->values) : arguments.size();
  size_t count = 0;
  while (count < most && at + count < arguments.size() &&
         !arguments[at + count].starts_with("--")) {
    ++count;
  }
  return count;
}

struct EffectlessFlag {
  MegatronLmFlag flag;
  std::string shown;
  std::optional<std::string> value;
};

// The arguments that are not options of the subcommand.
struct ExtraArguments {
  std::vector<EffectlessFlag> accepted;
  std::vector<std::string> stray;  // words that belong to no flag
};

// Reports all unknown flags together, since scripts of Megatron-LM have many.
ExtraArguments refuse_unknown_flags(const CLI::App& app, Command command) {
  const std::vector<std::string> extra = app.remaining();
  std::vector<UnknownOption> unknown;
  ExtraArguments result;
  for (size_t i = 0; i < extra.size(); ++i) {
    const std::string& argument = extra[i];
    if (!argument.starts_with('-') || argument.size() < 2) {
      result.stray.push_back(argument);
      continue;
    }
    const std::string flag = argument.substr(0, argument.find('='));
    const bool has_value = flag.size() < argument.size();
    const auto known = find_megatron_lm_flag(flag);
    const size_t values = has_value ? 0 : count_values(known, extra, i + 1);
    const bool again = std::ranges::any_of(unknown, [&](const auto& u) { return u.name == flag; });
    if (known && known->fate == MegatronLmFate::no_effect && accepts_effectless_flags(command) &&
        option_table().find_flag(flag) == nullptr) {
      EffectlessFlag one{*known, flag, std::nullopt};
      if (has_value) one.value = argument.substr(flag.size() + 1);
      if (values == 1) one.value = extra[i + 1];
      result.accepted.push_back(std::move(one));
    } else if (!again) {
      unknown.push_back({flag, flag, nearest_hint(flag, option_table().flags_of(command))});
    }
    i += values;
  }
  refuse_unknown_options(command,
                         {.noun = "a flag",
                          .one = fmt::format("a flag of megatron {}", command_name(command)),
                          .many = fmt::format("flags of megatron {}", command_name(command))},
                         unknown);
  return result;
}

void accept_effectless_flags(const std::vector<EffectlessFlag>& flags, Assignments& assignments) {
  for (const auto& [flag, shown, value] : flags) {
    if (flag.values > 0 && !value)
      throw UsageError(fmt::format("Expected a value after {}, but got none", shown));
    assignments.accept(flag, value.value_or(""), shown);
  }
}

// Call after the values are checked: a flag without its value consumes the next flag and leaves
// stray words.
void refuse_stray_words(const std::vector<std::string>& stray, Command command) {
  if (stray.empty()) return;
  throw UsageError(fmt::format("Expected a flag of megatron {}, but got '{}'",
                               command_name(command), stray.front()));
}

// Contradictions that only the given names reveal.
void check_contradictions(const ParsedCommand& parsed) {
  const TransformerConfig& config = parsed.options.model.transformer;
  for (const auto& [name, is_on, dtype] : {std::tuple{"bf16", config.bf16, at::kBFloat16},
                                           std::tuple{"fp16", config.fp16, at::kHalf}}) {
    if (!parsed.is_given(name) || !parsed.is_given("params_dtype") ||
        is_on == (config.params_dtype == dtype))
      continue;
    throw UsageError(
        fmt::format("Expected --{} or --params-dtype {}, but got both{}; leave one out", name,
                    dtype_name(config.params_dtype), is_on ? "" : fmt::format(" ({} off)", name)));
  }
  if (parsed.is_given("pipeline_model_parallel_layout") &&
      config.pipeline.pipeline_model_parallel_layout.empty()) {
    throw UsageError(
        "Expected stages after --pipeline-model-parallel-layout, as in Et*3|t*3L, but got an empty "
        "string; leave it out for an even split");
  }
  const CheckpointConfig& checkpoint = parsed.options.checkpoint;
  for (const auto& [name, folder] :
       {std::pair{"save", &checkpoint.save}, std::pair{"save-hf", &checkpoint.save_hf},
        std::pair{"load", &checkpoint.load}}) {
    if (parsed.is_given(with_underscores(name)) && folder->empty()) {
      throw UsageError(fmt::format(
          "Expected a directory after --{}, but got an empty string; leave --{} out", name, name));
    }
  }
}

// --eval-interval 0 on the command line discards eval_iters of the file. If one source gives both,
// validation refuses it.
void drop_disabled_file_options(Options& options, const std::set<std::string>& in_flags,
                                std::set<std::string>& in_file) {
  const bool off = in_flags.contains("eval_interval") && options.training.eval_interval == 0;
  if (!off || in_flags.contains("eval_iters") || in_file.erase("eval_iters") == 0) return;
  options.training.eval_iters = TrainingConfig().eval_iters;
}

// One tensor-parallel rank has the whole sequence. Scripts of Megatron-LM give the flag all the same.
void drop_sequence_parallel_of_one_rank(ParsedCommand& parsed) {
  TransformerConfig& config = parsed.options.model.transformer;
  if (!accepts_effectless_flags(parsed.command) || !config.sequence_parallel ||
      config.tensor_model_parallel_size != 1 || config.tp_comm_overlap) {
    return;
  }
  config.sequence_parallel = false;
  parsed.without_effect.emplace_back("--sequence-parallel (of one tensor parallel rank)");
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
  const ExtraArguments extra = refuse_unknown_flags(app, command);

  ParsedCommand result;
  result.command = command;
  std::set<std::string> in_flags, in_file, in_recipe;
  Assignments from_flags(result.options, in_flags);
  Assignments from_file(result.options, in_file);
  Assignments from_recipe(result.options, in_recipe);
  for (const auto& [option, parsed] : flags) {
    if (option->name() != "recipe" || parsed->count() == 0) continue;
    from_flags.assign(*option, /*inverted=*/false, parsed->results(), option->display());
    const std::string& name = result.options.recipe;
    if (name == kListRecipes) return result;
    read_yaml_text(std::string(find_recipe(name).text), "recipe " + name, command, from_recipe);
  }
  for (const auto& [option, parsed] : flags) {
    if (option->name() != "config_file" || parsed->count() == 0) continue;
    from_flags.assign(*option, /*inverted=*/false, parsed->results(), option->display());
    read_yaml_file(result.options.config_file, command, from_file);
  }
  for (const auto& [option, parsed] : flags) {
    if (parsed->count() == 0 || option->name() == "recipe") continue;
    from_flags.assign(*option, option->inverted, parsed->results(), option->display());
  }
  accept_effectless_flags(extra.accepted, from_flags);
  refuse_stray_words(extra.stray, command);
  drop_disabled_file_options(result.options, in_flags, in_file);
  result.given = in_flags;
  result.given.merge(in_file);
  result.given.merge(in_recipe);
  derive_from_shorthands(result.options, result.given);
  check_contradictions(result);
  AcceptedFlags accepted = from_flags.accepted();
  accepted.insert(from_file.accepted().begin(), from_file.accepted().end());
  accepted.insert(from_recipe.accepted().begin(), from_recipe.accepted().end());
  check_accepted_flags(accepted, result.options, result.given);
  result.without_effect = flags_without_effect(accepted, result.options);
  drop_sequence_parallel_of_one_rank(result);
  check_required(command, result.given);
  return result;
}

}  // namespace megatron
