// What a training run tells the world: the terminal, TensorBoard, a JSON log and an HTML report.
#pragma once

#include <memory>
#include <string>

#include "megatron/config/model/training_config.h"
#include "megatron/reporting/run_records.h"
#include "megatron/reporting/terminal.h"

namespace megatron {

// Used by one rank only (the one that knows the loss), by one thread at a time.
class RunLog {
 public:
  // Prints the parameter table and opens every file of `config`. Throws Error where a file cannot
  // be created or written, so that a run does not train for nothing. From then on a file that
  // cannot be written gives one warning on standard error and training goes on. With a report and a
  // JSON log, the points of earlier runs in that log become part of the report.
  RunLog(const LoggingConfig& config, RunDescription description,
         std::unique_ptr<Terminal> terminal = nullptr);  // standard output where null
  ~RunLog();                                             // finishes

  // For every iteration. The files get each one; the terminal a line each log_interval and at the
  // last step, with loss, time and rates averaged over the steps since the line before (as Megatron
  // does).
  void step(const StepRecord& record);
  void evaluation(const EvaluationRecord& record);
  // Shows the progress of an evaluation: in the status line of a terminal, else as a line every ten
  // seconds.
  void evaluation_progress(const EvaluationProgress& progress);
  // Prints the line of the steps since the last one: before the run stops between log intervals.
  // finish() does the same.
  void print_pending_steps();
  void note(const std::string& line);  // one line between steps (checkpoint saved, resumed, signal)
  // A box of results at the end of the run; also part of the report.
  void summary(const std::string& title, const NamedValues& rows);
  void finish();  // closes the files, writes the report; calling it again does nothing
  // What could not be written, or not whole: "standard output, --log-json". Empty where all is
  // there.
  std::string incomplete() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace megatron
