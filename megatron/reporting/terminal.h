// Prints lines, with a status line at the bottom if the stream is a terminal.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace megatron {

class Terminal {
 public:
  // Does not own `stream`. The status line needs a terminal that can move its cursor (TERM is not
  // "dumb"). NO_COLOR turns colours off.
  explicit Terminal(std::FILE* stream = stdout);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool interactive() const { return interactive_; }
  bool color() const { return color_; }
  bool unicode() const { return unicode_; }  // a terminal with a UTF-8 locale
  // The current width in columns; 100 if the stream is not a terminal.
  int width() const;

  // Writes the text and a newline, and flushes. The text may have several lines. Other control
  // characters are written as \xNN, so that no text can move the cursor.
  void line(std::string_view text);
  // Replaces the status line; does nothing if not interactive. The text may contain colour codes
  // and must be narrower than width().
  void status(std::string_view text);
  void clear_status();
  // Whether all writes so far succeeded.
  bool complete() const { return !warned_; }

 private:
  void write(std::string_view text);

  std::FILE* stream_;
  bool interactive_ = false, color_ = false, unicode_ = false;
  bool status_shown_ = false, warned_ = false;
  std::string status_;
};

// The width of UTF-8 text in columns; every character counts as one.
int display_width(std::string_view text);

// Replaces control characters, newline and tab included, with \xNN.
std::string printable(std::string_view text);

}  // namespace megatron
