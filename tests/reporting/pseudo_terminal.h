// A pseudo-terminal for tests: output() returns what was written to stream().
#pragma once

#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <pty.h>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace megatron {

// Sets an environment variable for its lifetime.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    setenv(name, value, 1);
  }
  ~ScopedVariable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

class PseudoTerminal {
 public:
  explicit PseudoTerminal(unsigned short columns)
      : term_("TERM", "xterm-256color"), no_color_("NO_COLOR", "") {
    winsize size{};
    size.ws_row = 24;
    size.ws_col = columns;
    int user_side = -1;
    EXPECT_EQ(openpty(&screen_, &user_side, nullptr, nullptr, &size), 0);
    stream_ = fdopen(user_side, "w");
  }
  ~PseudoTerminal() {
    std::fclose(stream_);
    close(screen_);
  }
  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;

  std::FILE* stream() { return stream_; }
  void resize(unsigned short columns) {
    winsize size{};
    size.ws_row = 24;
    size.ws_col = columns;
    EXPECT_EQ(ioctl(screen_, TIOCSWINSZ, &size), 0);
  }
  // The output since the last call. A writer blocks after a few thousand unread bytes.
  std::string output() {
    std::string out;
    pollfd waiting{screen_, POLLIN, 0};
    while (poll(&waiting, 1, 50) == 1 && (waiting.revents & POLLIN) != 0) {
      char buffer[4096];
      const ssize_t count = read(screen_, buffer, sizeof buffer);
      if (count <= 0) break;
      out.append(buffer, static_cast<size_t>(count));
    }
    return out;
  }

 private:
  ScopedVariable term_, no_color_;
  int screen_ = -1;
  std::FILE* stream_ = nullptr;
};

}  // namespace megatron
