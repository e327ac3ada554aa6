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
    case Command::convert:
      return "convert";
    case Command::evaluate:
      return "evaluate";
  }
  return "";
}

std::string_view command_summary(Command command) {
  switch (command) {
    case Command::train:
      return "Train a GPT model from scratch or from a checkpoint";
    case Command::generate:
      return "Generate text with a checkpoint";
    case Command::tokenize:
      return "Convert text on standard input to token ids, or back";
    case Command::preprocess:
      return "Tokenize text or JSON lines into the .bin and .idx files of a dataset";
    case Command::parity:
      return "Compare results with the stored numbers of another system";
    case Command::plan:
      return "Show the content of every pipeline stage, memory and pipeline bubble of a layout, "
             "without starting ranks";
    case Command::bench:
      return "Measure the speed of training steps on random tokens";
    case Command::inspect:
      return "Show the tensors, shapes and layout of a checkpoint";
    case Command::options:
      return "List all options, as text or as docs/options.md";
    case Command::verify_layout:
      return "Compare parallel layouts of a model with one rank";
    case Command::convert:
      return "Convert models between Hugging Face folders and checkpoints";
    case Command::evaluate:
      return "Measure the perplexity of a text and the accuracy of choices with a checkpoint";
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
