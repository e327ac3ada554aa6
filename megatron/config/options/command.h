// The subcommands of the program: names, summaries and sets. cli/ runs them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/base/usage_error.h"

namespace megatron {

enum class Command {
  train,
  generate,
  tokenize,
  preprocess,
  parity,
  plan,
  bench,
  inspect,
  options,
  verify_layout,
  convert,
  evaluate
};

inline constexpr Command kCommands[] = {
    Command::train,      Command::generate,      Command::evaluate, Command::convert,
    Command::preprocess, Command::tokenize,      Command::plan,     Command::bench,
    Command::parity,     Command::verify_layout, Command::inspect,  Command::options};

// A set of subcommands as a bit mask.
using CommandSet = uint32_t;

template <typename... Commands>
constexpr CommandSet commands(Commands... command) {
  return (CommandSet{0} | ... | (CommandSet{1} << static_cast<uint32_t>(command)));
}

inline bool contains(CommandSet set, Command command) {
  return (set & commands(command)) != 0;
}

std::string_view command_name(Command command);
std::string_view command_summary(Command command);

// Throws UsageError with the nearest name if there is no such subcommand.
Command command_from_name(std::string_view name);

// Names of a set: "train, bench".
std::string command_list(CommandSet set);

}  // namespace megatron
