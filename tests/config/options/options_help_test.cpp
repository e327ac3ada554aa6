// Help texts and docs/options.md.
#include "megatron/config/options/options_help.h"

#include <fstream>
#include <gmock/gmock.h>
#include <sstream>

#include <gtest/gtest.h>

#include "megatron/config/megatron_lm/megatron_lm_flags.h"
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

TEST(Help, ProgramHelpListsSubcommands) {
  const std::string help = program_help(80);
  for (const Command command : kCommands) {
    EXPECT_THAT(help, HasSubstr("  " + std::string(command_name(command)) + " "));
  }
}

TEST(Help, SubcommandHelpListsItsFlagsOnly) {
  for (const Command command : kCommands) {
    const std::string help = command_help(command, 100);
    for (const Option& option : option_table().options()) {
      const std::string start = "\n  " + option.display();
      const bool listed = help.find(start + " ") != std::string::npos ||
                          help.find(start + ",") != std::string::npos ||
                          help.find(start + "\n") != std::string::npos;
      EXPECT_EQ(listed, contains(option.taken_by, command))
          << command_name(command) << " " << option.flag;
    }
  }
}

TEST(Help, ShowsTypeUnitAndDefault) {
  const std::string help = command_help(Command::train, 200);
  EXPECT_THAT(help, HasSubstr("--lr X"));
  EXPECT_THAT(help, HasSubstr("[per step; default: 0.0003]"));
  EXPECT_THAT(help, HasSubstr("--optimizer adam|sgd"));
  EXPECT_THAT(help, HasSubstr("[features; default: hidden size / number of heads]"));
  EXPECT_THAT(help, HasSubstr("[layers; required]"));
  EXPECT_THAT(command_help(Command::generate, 100), HasSubstr("[required]"));
  EXPECT_THAT(help, HasSubstr("saved with any parallel layout"));
  EXPECT_THAT(command_help(Command::parity, 100),
              HasSubstr("Usage: megatron parity CASE-FILE [flags]"));
}

TEST(Help, FitsTheTerminalWidth) {
  for (const int width : {60, 80, 120}) {
    for (const Command command : kCommands) {
      std::istringstream lines(command_help(command, width));
      for (std::string line; std::getline(lines, line);) {
        // The left column may exceed the width.
        if (line.starts_with("  --")) continue;
        EXPECT_LE(line.size(), static_cast<size_t>(width)) << line;
      }
    }
  }
}

TEST(Markdown, OptionsPageIsUpToDate) {
  std::ifstream file(DOCS_DIR "/options.md");
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), options_markdown()) << "run: megatron options --markdown > docs/options.md";
}

TEST(Markdown, MegatronLmPageIsUpToDate) {
  std::ifstream file(DOCS_DIR "/from_megatron_lm.md");
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_THAT(text.str(), HasSubstr("-->\n" + megatron_lm_flags_markdown() + "<!--"))
      << "put between the marks: megatron options --megatron-lm-flags";
}

TEST(Markdown, EveryFlagHasARow) {
  const std::string page = options_markdown();
  for (const Option& option : option_table().options()) {
    EXPECT_THAT(page, HasSubstr("| `" + option.display())) << option.flag;
  }
}

}  // namespace
}  // namespace megatron
