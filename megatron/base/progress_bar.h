// A progress bar with rate and time left: redrawn in place on a terminal, plain lines now and then
// in a pipe. It knows nothing of what is being done.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace megatron {

// 45 -> "45s", 125 -> "2m05s", 7260 -> "2h01m", 200000 -> "2d07h".
std::string format_duration(double seconds);

// 950 -> "950", 12345 -> "12.3k", 4.1e6 -> "4.10M": three digits and a decimal prefix.
std::string format_quantity(double value);

struct ProgressBarOptions {
  std::string label;                        // what is being done: "preprocess"
  std::string unit = "";                    // of done and total: "B", "tokens"
  double total = 0;                         // 0: not known, so no share and no time left
  std::FILE* stream = stderr;               // where to draw; not owned
  std::optional<bool> terminal;             // is the stream a terminal; found out where not given
  std::optional<int> width;                 // columns; asked from the terminal where not given
  double terminal_interval = 0.1;           // least seconds between two drawings on a terminal
  double line_interval = 10.0;              // the same for lines in a pipe
  std::function<double()> seconds_elapsed;  // a monotonic clock; the system's where not given
};

// One thread uses a bar. finish() (or the destructor) leaves the cursor on a fresh line.
class ProgressBar {
 public:
  explicit ProgressBar(ProgressBarOptions options);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `done` so far, in the bar's unit, with a short text beside it. Draws only when it is time to.
  void update(double done, std::string_view detail = {});

  // Prints a whole line: above the bar on a terminal, as it is in a pipe.
  void print_line(std::string_view line);

  // Draws the last state for good. Later calls do nothing.
  void finish(std::string_view detail = {});

  bool on_terminal() const { return terminal_; }

 private:
  double elapsed() const;
  int columns() const;
  std::string text(int columns) const;
  void draw();
  void erase();

  ProgressBarOptions options_;
  bool terminal_ = false;
  bool drawn_ = false;
  bool finished_ = false;
  double start_ = 0;
  double last_ = 0;
  double done_ = 0;
  std::string detail_;
};

}  // namespace megatron
