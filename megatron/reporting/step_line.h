// The one line that a training run prints for a step: self-describing, and as wide as those before
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "megatron/reporting/run_records.h"

namespace megatron {

// The mean time of the last twenty steps or so, to foretell the rest. The first step after a start
// counts only until there is a second: it pays for allocation and warm-up.
class SmoothedStepTime {
 public:
  void add(double step_ms);
  double milliseconds() const { return mean_; }

 private:
  int64_t count_ = 0;
  double mean_ = 0;
};

// The steps since the last line.
class StepMeans {
 public:
  void add(const StepRecord& record);
  bool empty() const { return count_ == 0; }
  // The last record with the mean losses and time in place of its own, and rates over the whole
  // time. Starts anew.
  StepRecord take();

 private:
  double count_ = 0;
  StepRecord sum_, last_;   // in sum_ rates are multiplied by the step's time
  bool peak_known_ = true;  // the share of the peak, of every step
};

class StepLine {
 public:
  explicit StepLine(int64_t train_iters) : train_iters_(train_iters) {}

  // For example
  // step 120/600 | loss  4.5123 | grad norm  1.234 | lr 3.000e-04 |   85.3 ms | 12.0k tok/s | ...
  // Columns that were not measured at the first call are left out of every line. Where the line is
  // wider than `max_width`, the columns that matter least are left out.
  std::string format(const StepRecord& record, double smoothed_step_ms, int max_width = 1 << 20);

 private:
  struct Columns {
    bool tflops, peak_fraction, memory;
  };
  int64_t train_iters_;
  std::optional<Columns> columns_;
};

std::string evaluation_line(const EvaluationRecord& record, int64_t train_iters);

// "0:41", "12:05", "1:02:05", "10h02m", "12d03h". Rounded to seconds.
std::string duration_text(double seconds);

// The number in at most `width` characters, right-aligned: with `decimals` decimals or the most
// that fit, else with an exponent.
std::string fitted_number(double value, int width, int decimals);

}  // namespace megatron
