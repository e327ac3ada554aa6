// A progress bar with rate and remaining time. On a terminal it is redrawn in place; otherwise it
// prints a line from time to time.
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

// 950 -> "950", 12345 -> "12.3k", 4.1e6 -> "4.10M": three digits and an SI prefix.
std::string format_quantity(double value);

struct ProgressBarOptions {
  std::string label;                        // name of the task: "preprocess"
  std::string unit = "";                    // of done and total: "B", "tokens"
  double total = 0;                         // 0: unknown; then no percentage or remaining time
  std::FILE* stream = stderr;               // not owned
  std::optional<bool> terminal;             // whether `stream` is a terminal; default: isatty
  std::optional<int> width;                 // columns; default: the terminal's
  double terminal_interval = 0.1;           // minimum seconds between redraws on a terminal
  double line_interval = 10.0;              // minimum seconds between lines elsewhere
  std::function<double()> seconds_elapsed;  // monotonic clock; default: steady_clock
};

// Not thread-safe. finish() and the destructor leave the cursor on a new line.
class ProgressBar {
 public:
  explicit ProgressBar(ProgressBarOptions options);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Sets the progress in the bar's unit and a short text shown next to it. Redraws at most once per
  // interval.
  void update(double done, std::string_view detail = {});

  // Prints a line; on a terminal it appears above the bar.
  void print_line(std::string_view line);

  // Draws the final state. Later calls do nothing.
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
