// Runs the program `megatron` as a user would, and keeps what it printed.
#pragma once

#include <string>

namespace megatron {

struct ProgramResult {
  int status = 0;  // exit status; 128 + signal where a signal ended it
  std::string output, errors;
};

// `arguments` are read by a shell; `environment` is put before the command ("A=1 B=2"), `input` is
// its standard input. The program is ended after `timeout_seconds`, with status 124.
ProgramResult run_program(const std::string& arguments, const std::string& environment = "",
                          const std::string& input = "", int timeout_seconds = 120);

}  // namespace megatron
