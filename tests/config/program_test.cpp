// The program: help, version, exit statuses and errors.
#include "tests/program.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

namespace megatron {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Program, HelpAndVersion) {
  const ProgramResult help = run_program("--help");
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.output, HasSubstr("Subcommands"));
  const ProgramResult train = run_program("train --help");
  EXPECT_EQ(train.status, 0);
  EXPECT_THAT(train.output, HasSubstr("--tensor-model-parallel-size"));
  const ProgramResult version = run_program("--version");
  EXPECT_EQ(version.status, 0);
  EXPECT_THAT(version.output, StartsWith("megatron "));
}

TEST(Program, HelpWinsOverWhatIsWrong) {
  EXPECT_EQ(run_program("train --num-layers x -h").status, 0);
}

TEST(Program, UsageErrorsGiveStatusTwoAndALastLine) {
  const ProgramResult nothing = run_program("");
  EXPECT_EQ(nothing.status, 2);
  EXPECT_THAT(last_line(nothing.errors), StartsWith("error: Expected a subcommand"));
  const ProgramResult unknown = run_program("trian");
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(last_line(unknown.errors), EndsWith("the nearest is train"));
  const ProgramResult flag = run_program("options --markdwn");
  EXPECT_EQ(flag.status, 2);
  EXPECT_EQ(
      last_line(flag.errors),
      "error: Expected a flag of megatron options, but got --markdwn; the nearest is --markdown");
  EXPECT_EQ(run_program("train --num-layers x").status, 2);
}

TEST(Program, OptionsPrintsTheTable) {
  const ProgramResult list = run_program("options");
  EXPECT_EQ(list.status, 0);
  EXPECT_THAT(list.output, HasSubstr("--num-layers N"));
  EXPECT_THAT(run_program("options --markdown").output, StartsWith("# Options\n"));
}

TEST(Program, OutputThatCannotBeWrittenIsAnError) {
  const ProgramResult full = run_program("options >/dev/full");
  EXPECT_EQ(full.status, 1);
  EXPECT_THAT(last_line(full.errors), HasSubstr("standard output"));
}

}  // namespace
}  // namespace megatron
