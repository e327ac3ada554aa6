#include "megatron/config/options/command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "megatron/base/nearest_name.h"

namespace megatron {

std::string_view command_name(Command command) {
  switch (command) {
    case Command::train:
      return "train";
    case Command::generate:
      return "generate";
    case Command::tokenize:
      return "tokenize";
    case Command::preprocess:
      return "preprocess";
    case Command::parity:
      return "parity";
    case Command::plan:
      return "plan";
    case Command::bench:
      return "bench";
    case Command::inspect:
      return "inspect";
    case Command::options:
      return "options";
    case Command::verify_layout:
      return "verify-layout";
  }
  return "";
}

std::string_view command_summary(Command command) {
  switch (command) {
    case Command::train:
      return "Train a GPT model, or go on from a checkpoint, over any number of ranks";
    case Command::generate:
      return "Generate text from a checkpoint, over tensor and pipeline parallel ranks";
    case Command::tokenize:
      return "Turn the text on standard input into token ids, or back";
    case Command::preprocess:
      return "Turn text or JSON lines into the .bin and .idx files of a dataset";
    case Command::parity:
      return "Compare this program with numbers that another system stored";
    case Command::plan:
      return "Show which rank would hold what, and the schedule's bubble, without starting ranks";
    case Command::bench:
      return "Measure the speed of training steps on random tokens";
    case Command::inspect:
      return "Show what is in a checkpoint: tensors, shapes, layout";
    case Command::options:
      return "List every option, as text or as the page docs/options.md";
    case Command::verify_layout:
      return "Check that parallel layouts of a model compute what one rank computes";
  }
  return "";
}

Command command_from_name(std::string_view name) {
  std::vector<std::string> names;
  for (const Command command : kCommands) {
    if (command_name(command) == name) return command;
    names.emplace_back(command_name(command));
  }
  throw UsageError(fmt::format("Expected a subcommand ({}), but got '{}'; the nearest is {}",
                               fmt::join(names, ", "), name, nearest_name(name, names)));
}

std::string command_list(CommandSet set) {
  std::vector<std::string_view> names;
  for (const Command command : kCommands) {
    if (contains(set, command)) names.push_back(command_name(command));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace megatron
