// The program itself: help, version, exit statuses, and where errors go.
#include <cstdio>
#include <gmock/gmock.h>
#include <string>
#include <sys/wait.h>

#include <gtest/gtest.h>

namespace megatron {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct ProgramResult {
  int status;
  std::string output;
};

// Runs the program in a shell; `redirection` says which of its streams to read.
ProgramResult run_program(const std::string& arguments, const std::string& redirection) {
  const std::string line = std::string(MEGATRON_PROGRAM) + " " + arguments + " " + redirection;
  FILE* pipe = popen(line.c_str(), "r");
  ProgramResult run{-1, ""};
  if (pipe == nullptr) return run;
  char buffer[4096];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) run.output.append(buffer, n);
  const int status = pclose(pipe);
  run.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return run;
}

ProgramResult standard_output(const std::string& arguments) {
  return run_program(arguments, "2>/dev/null");
}
ProgramResult standard_error(const std::string& arguments) {
  return run_program(arguments, "2>&1 >/dev/null");
}

std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  const size_t start = text.find_last_of('\n', end);
  return text.substr(start == std::string::npos ? 0 : start + 1, end - start);
}

TEST(Program, HelpAndVersion) {
  const ProgramResult help = standard_output("--help");
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.output, HasSubstr("Subcommands"));
  const ProgramResult train = standard_output("train --help");
  EXPECT_EQ(train.status, 0);
  EXPECT_THAT(train.output, HasSubstr("--tensor-model-parallel-size"));
  const ProgramResult version = standard_output("--version");
  EXPECT_EQ(version.status, 0);
  EXPECT_THAT(version.output, StartsWith("megatron "));
}

TEST(Program, HelpWinsOverWhatIsWrong) {
  EXPECT_EQ(standard_output("train --num-layers x -h").status, 0);
}

TEST(Program, UsageErrorsGiveStatusTwoAndALastLine) {
  const ProgramResult nothing = standard_error("");
  EXPECT_EQ(nothing.status, 2);
  EXPECT_THAT(last_line(nothing.output), StartsWith("error: Expected a subcommand"));
  const ProgramResult unknown = standard_error("trian");
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(last_line(unknown.output), EndsWith("the nearest is train"));
  const ProgramResult flag = standard_error("options --markdwn");
  EXPECT_EQ(flag.status, 2);
  EXPECT_EQ(
      last_line(flag.output),
      "error: Expected a flag of megatron options, but got --markdwn; the nearest is --markdown");
  EXPECT_EQ(standard_error("train --num-layers x").status, 2);
}

TEST(Program, OptionsPrintsTheTable) {
  const ProgramResult list = standard_output("options");
  EXPECT_EQ(list.status, 0);
  EXPECT_THAT(list.output, HasSubstr("--num-layers N"));
  EXPECT_THAT(standard_output("options --markdown").output, StartsWith("# Options\n"));
}

TEST(Program, OutputThatCannotBeWrittenIsAnError) {
  const ProgramResult full = run_program("options", "2>&1 >/dev/full");
  EXPECT_EQ(full.status, 1);
  EXPECT_THAT(last_line(full.output), HasSubstr("standard output"));
}

}  // namespace
}  // namespace megatron
