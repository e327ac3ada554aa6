// The log of a training run: terminal, TensorBoard, JSON log and HTML report.
#pragma once

#include <memory>
#include <string>

#include "megatron/config/model/training_config.h"
#include "megatron/reporting/run_records.h"
#include "megatron/reporting/terminal.h"

namespace megatron {

// Whether a run that ends after `last_iteration` shows this iteration: in a file, or as a line of the
// terminal. The same on every rank.
bool shows_step(const LoggingConfig& config, int64_t iteration, int64_t last_iteration);

// Used by the first rank of a run only. Not thread-safe.
class RunLog {
 public:
  // Prints the parameter table and opens every file of `config`. Throws Error if a file cannot be
  // created or written, so that no run trains without its logs. Later, a write error gives one
  // warning on standard error and training continues. With both a report and a JSON log, the report
  // includes the earlier runs in that log.
  RunLog(const LoggingConfig& config, RunDescription description,
         std::unique_ptr<Terminal> terminal = nullptr);  // standard output where null
  ~RunLog();                                             // finishes

  // Call for every iteration. Files get every step. The terminal gets a line per log_interval and
  // at the last step, with loss, time and rates averaged over the steps since the previous line, as
  // in Megatron.
  void step(const StepRecord& record);
  void evaluation(const EvaluationRecord& record);
  // Shows the progress of an evaluation: in the status line of a terminal, else as a line every ten
  // seconds.
  void evaluation_progress(const EvaluationProgress& progress);
  // Prints the line of the steps since the last one: before the run stops between log intervals.
  // finish() does the same.
  void print_pending_steps();
  void note(const std::string& line);  // one line between steps (checkpoint saved, resumed, signal)
  // Prints a box of results at the end of the run and adds it to the report.
  void summary(const std::string& title, const NamedValues& rows);
  void finish();  // closes the files and writes the report; idempotent
  // The outputs that are incomplete after write errors, such as "standard output, --log-json";
  // empty if there were none.
  std::string incomplete() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace megatron
