// What --help prints, and the page docs/options.md, made from the table of options.
#pragma once

#include <string>

#include "megatron/config/options/command.h"

namespace megatron {

// The program's help: its subcommands with a line each. `width` is the terminal's, in columns.
std::string program_help(int width);

// A subcommand's help: its flags by section, with type or choices, help, unit and default.
std::string command_help(Command command, int width);

// Every option of the program in that form.
std::string all_options_help(int width);

// The page docs/options.md.
std::string options_markdown();

}  // namespace megatron
