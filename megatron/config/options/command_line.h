// Parses the command line of a subcommand and its --config file.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "megatron/config/options/command.h"
#include "megatron/config/options/options.h"

namespace megatron {

struct ParsedCommand {
  Command command = Command::train;
  Options options;
  std::set<std::string> given;  // fields and shorthands that flags or the file assign
  // Flags of Megatron-LM that were accepted without effect, with their values (accepted_flags.h).
  std::vector<std::string> without_effect;

  bool is_given(std::string_view name) const { return given.contains(std::string(name)); }
};

// The value of --recipe that asks for the list of recipes; other options are then not read.
inline constexpr char kListRecipes[] = "list";

// Parses the arguments after the subcommand: first the recipe, then the file of --config, which
// overrides it, then the flags, which override both. Syntax: "--flag value" or "--flag=value"; switches also accept "=true" and "=false".
// Sequence parallelism over one tensor-parallel rank is switched off, as in Megatron-LM, and listed
// in `without_effect`.
// Throws UsageError for unknown flags (with the nearest name), flags of other subcommands, values
// of another type, and contradictions.
ParsedCommand parse_options(Command command, const std::vector<std::string>& arguments);

}  // namespace megatron
