// Where a run's lines go: whole plain lines, and on a terminal a status line that stays at the
// bottom.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace megatron {

class Terminal {
 public:
  // `stream` stays open and the caller's. A status line is shown only where it is a terminal that
  // can move its cursor (TERM is not "dumb"); colours only without NO_COLOR.
  explicit Terminal(std::FILE* stream = stdout);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool interactive() const { return interactive_; }
  bool color() const { return color_; }
  bool unicode() const { return unicode_; }  // a terminal whose locale is UTF-8
  // Columns now (a window may be resized at any time); 100 where the stream is no terminal.
  int width() const;

  // Writes the text and a newline, and flushes. A newline inside makes several lines; other control
  // characters are written as \xNN, so that no text can move the cursor.
  void line(std::string_view text);
  // Replaces the status line; nothing where not interactive. The text may hold colours and must be
  // narrower than width().
  void status(std::string_view text);
  void clear_status();
  // Whether the stream took everything so far.
  bool complete() const { return !warned_; }

 private:
  void write(std::string_view text);

  std::FILE* stream_;
  bool interactive_ = false, color_ = false, unicode_ = false;
  bool status_shown_ = false, warned_ = false;
  std::string status_;
};

// Columns that UTF-8 text takes, every character counted as one.
int display_width(std::string_view text);

// The text with control characters (newline and tab included) as \xNN.
std::string printable(std::string_view text);

}  // namespace megatron
