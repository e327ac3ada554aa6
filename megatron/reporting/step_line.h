// The line that a training run prints per step. Columns are labelled and keep their width.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "megatron/reporting/run_records.h"

namespace megatron {

// The mean time of about the last 20 steps, for the estimate of the remaining time. The first step
// (allocation, warm-up) counts only until there is a second.
class SmoothedStepTime {
 public:
  void add(double step_ms);
  double milliseconds() const { return mean_; }

 private:
  int64_t count_ = 0;
  double mean_ = 0;
};

// Averages over the steps since the last line.
class StepMeans {
 public:
  void add(const StepRecord& record);
  bool empty() const { return count_ == 0; }
  // The last record with mean losses, mean step time, and rates over the total time. Resets.
  StepRecord take();

 private:
  double count_ = 0;
  StepRecord sum_, last_;   // rates in sum_ are multiplied by the step time
  bool peak_known_ = true;  // gemm_peak_fraction is known for every step
};

class StepLine {
 public:
  explicit StepLine(int64_t train_iters, bool shows_batch_size = false)
      : train_iters_(train_iters), shows_batch_size_(shows_batch_size) {}

  // Returns, for example,
  // step 120/600 | loss  4.5123 | grad norm  1.234 | lr 3.000e-04 |   85.3 ms | 12.0k tok/s | ...
  // Columns without a measurement at the first call are omitted from every line. If the line is
  // wider than `max_width`, the least important columns are omitted.
  std::string format(const StepRecord& record, double smoothed_step_ms, int max_width = 1 << 20);

 private:
  struct Columns {
    bool tflops, peak_fraction, memory;
  };
  int64_t train_iters_;
  bool shows_batch_size_;
  std::optional<Columns> columns_;
};

std::string evaluation_line(const EvaluationRecord& record, int64_t train_iters);

// "0:41", "12:05", "1:02:05", "10h02m", "12d03h": rounded to seconds.
std::string duration_text(double seconds);

// The number right-aligned in `width` characters, with `decimals` decimals or as many as fit, else
// in exponent notation.
std::string fitted_number(double value, int width, int decimals);

}  // namespace megatron
