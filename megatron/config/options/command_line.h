// The command line of a subcommand, and the file that it names, as options.
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
  std::set<std::string> given;  // names of the fields and shorthands that flags or the file set

  bool is_given(std::string_view name) const { return given.contains(std::string(name)); }
};

// Reads the arguments behind the subcommand's name: first the file of --config, then the flags,
// which win. Values follow as "--flag value" or "--flag=value"; a flag that turns something on also
// takes "=true" or
// "=false". Throws UsageError for what it does not know (with the nearest name), for a flag of
// other subcommands, for values of another type, and for contradictions.
ParsedCommand parse_options(Command command, const std::vector<std::string>& arguments);

}  // namespace megatron
