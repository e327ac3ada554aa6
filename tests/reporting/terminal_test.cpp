// Terminal on a pseudo-terminal and on a file.
#include "megatron/reporting/terminal.h"

#include "tests/reporting/pseudo_terminal.h"

namespace megatron {
namespace {

TEST(Terminal, RedrawsTheStatusLineBelowEachLine) {
  PseudoTerminal device(80);
  Terminal terminal(device.stream());
  ASSERT_TRUE(terminal.interactive());
  terminal.line("first");
  terminal.status("50%");
  terminal.line("second");
  terminal.clear_status();
  terminal.clear_status();
  EXPECT_EQ(device.output(), "first\r\n\r\x1b[2K50%\r\x1b[2Ksecond\r\n50%\r\x1b[2K");
}

TEST(Terminal, WidthFollowsTheWindow) {
  PseudoTerminal device(123);
  Terminal terminal(device.stream());
  EXPECT_EQ(terminal.width(), 123);
  device.resize(60);
  EXPECT_EQ(terminal.width(), 60);
  device.resize(0);  // some terminals report no width
  EXPECT_EQ(terminal.width(), 80);
}

TEST(Terminal, EnvironmentTurnsColoursAndTheStatusLineOff) {
  PseudoTerminal device(80);
  EXPECT_TRUE(Terminal(device.stream()).color());
  {
    const ScopedVariable no_color("NO_COLOR", "1");
    EXPECT_FALSE(Terminal(device.stream()).color());
    EXPECT_TRUE(Terminal(device.stream()).interactive());
  }
  const ScopedVariable dumb("TERM", "dumb");
  EXPECT_FALSE(Terminal(device.stream()).interactive());
}

TEST(Terminal, LocaleSelectsLineDrawingCharacters) {
  PseudoTerminal device(80);
  const ScopedVariable language("LANG", "en_GB.UTF-8");
  const ScopedVariable type("LC_CTYPE", "");
  {
    const ScopedVariable all("LC_ALL", "");
    EXPECT_TRUE(Terminal(device.stream()).unicode());
  }
  const ScopedVariable all("LC_ALL", "C");
  EXPECT_FALSE(Terminal(device.stream()).unicode());
}

TEST(Terminal, WritesPlainLinesToFilesImmediately) {
  std::FILE* file = std::tmpfile();
  Terminal terminal(file);
  EXPECT_FALSE(terminal.interactive() || terminal.color() || terminal.unicode());
  EXPECT_EQ(terminal.width(), 100);
  terminal.status("50%");
  terminal.line("a\nb\x1b[2J\tc");
  terminal.line("");
  std::string text(64, '\0');
  text.resize(static_cast<size_t>(pread(fileno(file), text.data(), text.size(), 0)));
  EXPECT_EQ(text, "a\nb\\x1b[2J\\x09c\n\n");
  std::fclose(file);
}

TEST(Terminal, WarnsOnceIfWritingFails) {
  std::FILE* full = std::fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  testing::internal::CaptureStderr();
  {
    Terminal terminal(full);
    terminal.line("one");
    terminal.line("two");
  }
  EXPECT_EQ(
      testing::internal::GetCapturedStderr(),
      "warning: cannot write to standard output (No space left on device); the run goes on\n");
  std::fclose(full);
}

TEST(DisplayWidth, CountsCharacters) {
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("naïve │"), 7);
}

}  // namespace
}  // namespace megatron
