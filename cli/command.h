// What a subcommand's file defines, and what the subcommands share about the terminal.
#pragma once

#include "megatron/config/options/command_line.h"

namespace megatron {

// cli/<name>.cpp defines run_<name>: it does what was asked and returns the exit status, 0 where it
// did. It throws Error for what is wrong; main() prints that and returns 1.
using RunCommand = int(const ParsedCommand& command);

RunCommand run_train;
RunCommand run_generate;
RunCommand run_evaluate;
RunCommand run_tokenize;
RunCommand run_preprocess;
RunCommand run_parity;
RunCommand run_plan;
RunCommand run_verify_layout;
RunCommand run_bench;
RunCommand run_inspect;
RunCommand run_convert;
RunCommand run_options;

// Columns of the terminal on standard output, else of COLUMNS, else 100.
int terminal_width();

}  // namespace megatron
