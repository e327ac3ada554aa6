// The subcommands of the program: their names, what each does in a line, and sets of them.
// Running them is cli/'s part.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/base/error.h"

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
  verify_layout
};

inline constexpr Command kCommands[] = {
    Command::train, Command::generate, Command::preprocess,    Command::tokenize, Command::plan,
    Command::bench, Command::parity,   Command::verify_layout, Command::inspect,  Command::options};

// A set of subcommands, one bit each.
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

// The subcommand of that name. Throws UsageError that names the nearest.
Command command_from_name(std::string_view name);

// "train, bench": the names of a set.
std::string command_list(CommandSet set);

// A command line or configuration file that cannot be understood; the program exits with status 2.
class UsageError : public Error {
 public:
  using Error::Error;
  // `details`: lines to be printed before the message, each with its end.
  UsageError(const std::string& message, std::string details)
      : Error(message), details_(std::move(details)) {}

  const std::string& details() const { return details_; }

 private:
  std::string details_;
};

}  // namespace megatron
