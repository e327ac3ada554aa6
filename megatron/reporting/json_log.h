// The log of a run as JSON lines, and the run's history read back from it after any number of
// resumes.
//
// The file of --log-json holds steps only, one object per line, so that all lines have the same
// form:
//   step, loss, grad_norm, lr, consumed_samples, ms, tokens_per_s; if known, batch_size, loss_scale
//   (of fp16), fp8 (recipe, and counts of quantised, saturated and underflowed elements), tflops, gemm_peak_fraction, memory_mib; for each MTP depth from 1, mtp_1_loss, mtp_1_tokens and
//   mtp_1_acceptance_rate (percent).
// Doubles round-trip. JSON has no NaN or infinity: they are written as the strings "NaN",
// "Infinity" and "-Infinity", which Python's float() and JavaScript's Number() accept.
//
// For metrics.jsonl, the file metrics.events.jsonl beside it holds everything else, one object per
// line with a key "event": "run" (per start: layout, settings, first_iteration, peak),
// "evaluation", "note", "summary". At its start, a run cuts the records that it supersedes
// (cut_json_log), then appends.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "megatron/reporting/log_file.h"
#include "megatron/reporting/run_records.h"

namespace megatron {

struct RunStart {
  RunDescription description;
  std::string time;  // ISO 8601, UTC
};

struct RunNote {
  int64_t iteration = 0;  // iterations done when it was written
  std::string text;
};

// A training run over all its starts and resumes. Steps that a later start repeated count once.
struct RunHistory {
  std::vector<RunStart> runs;  // by first_iteration, ascending
  std::vector<StepRecord> steps;
  std::vector<EvaluationRecord> evaluations;
  std::vector<RunNote> notes;
  std::vector<RunSummary> summaries;

  // add() removes the records that the new one supersedes: for a step, steps from its iteration on;
  // for a run, everything after its first iteration; for an evaluation, an earlier one of the same
  // split and iteration.
  void add(RunStart run);
  void add(const StepRecord& record);
  void add(EvaluationRecord record);
  void add(RunNote note);
  void add(RunSummary summary);
};

// The event file of the log at `path`: "metrics.events.jsonl" for "metrics.jsonl".
std::string event_log_path(const std::string& path);

// Returns an empty history if neither file exists. Skips incomplete lines, such as the last line of
// a killed run. Throws Error if the log exists and none of its lines is a record.
RunHistory read_json_log(const std::string& path);

// Removes the records after iteration `first_iteration` from the end of the log at `path` and of
// its event file, for a run that repeats these steps. For metrics.jsonl they are appended to
// metrics.superseded.jsonl and metrics.events.superseded.jsonl. Stops at a line that is not a
// record: it and all lines before it stay. Returns the number of records removed. Does nothing if
// `path` is empty or not a regular file. Throws Error if a file cannot be written.
int64_t cut_json_log(const std::string& path, int64_t first_iteration);

class JsonLog {
 public:
  // Appends to existing files. Throws Error if they cannot be written. A device or pipe such as
  // /dev/stdout gets steps only.
  JsonLog(const std::string& path, const RunStart& run);

  // Each returns false if the record could not be written; error() gives the reason.
  bool step(const StepRecord& record);
  bool evaluation(const EvaluationRecord& record);
  bool note(const RunNote& note);
  bool summary(const RunSummary& summary);

  const std::string& error() const { return error_; }

 private:
  bool append(LogFile& file, std::string line);
  bool append_event(std::string line);

  LogFile steps_;
  std::unique_ptr<LogFile> events_;
  std::string error_;
};

}  // namespace megatron
