// Runs programs as a user would, and keeps what they print.
#pragma once

#include <map>
#include <string>
#include <sys/types.h>
#include <vector>

#include "tests/temporary_folder.h"

namespace megatron {

// The text after the last newline but a trailing one.
std::string last_line(const std::string& text);

// A started program. Its output goes to files of its own, so that it never waits for a reader.
class ChildProgram {
 public:
  // `variables` are set on top of this process's environment, less the variables of launchers;
  // `input` is its standard input.
  explicit ChildProgram(const std::vector<std::string>& arguments,
                        const std::map<std::string, std::string>& variables = {},
                        const std::string& input = "");
  ~ChildProgram();  // ends it where it still runs
  ChildProgram(const ChildProgram&) = delete;
  ChildProgram& operator=(const ChildProgram&) = delete;

  pid_t pid() const { return pid_; }
  int wait();  // for its end: the exit status, or 128 + signal
  std::string out() const;
  std::string err() const;
  std::string last_error_line() const { return last_line(err()); }

 private:
  const TemporaryFolder folder_;
  pid_t pid_ = 0;
};

struct ProgramResult {
  int status = 0;  // exit status; 128 + signal where a signal ended it
  std::string output, errors;
};

// Runs `megatron`. `arguments` are read by a shell, redirections too; `environment` is put before
// the command ("A=1 B=2"), `input` is its standard input. The program is ended after
// `timeout_seconds`, with status 124.
ProgramResult run_program(const std::string& arguments, const std::string& environment = "",
                          const std::string& input = "", int timeout_seconds = 120);

}  // namespace megatron
