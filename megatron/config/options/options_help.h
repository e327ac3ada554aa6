// Help texts and docs/options.md, generated from the option table.
#pragma once

#include <string>

#include "megatron/config/options/command.h"

namespace megatron {

// Help of the program: its subcommands. `width` is the terminal width in columns.
std::string program_help(int width);

// Help of a subcommand: its flags by section, with type, help, unit and default.
std::string command_help(Command command, int width);

// All options in the same form.
std::string all_options_help(int width);

// The page docs/options.md.
std::string options_markdown();

}  // namespace megatron
