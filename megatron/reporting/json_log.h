// The log of a run as JSON lines, and what can be read back from it after any number of resumes.
//
// The file of --log-json holds steps alone, one object a line, so that a reader needs no case
// analysis:
//   step, loss, grad_norm, lr, consumed_samples, ms, tokens_per_s, and where known batch_size,
//   tflops, gemm_peak_fraction, memory_mib; with multi-token prediction, for each depth from 1,
//   mtp_1_loss, mtp_1_tokens, mtp_1_acceptance_rate (percent).
// Numbers are written so that they read back as the same double. JSON has no NaN or infinity: these
// are the strings "NaN", "Infinity" and "-Infinity", which Python's float() and JavaScript's
// Number() take. Beside it, metrics.events.jsonl (for metrics.jsonl) holds everything else, an
// object a line with a key "event": "run" (at each start: layout, settings, first_iteration, peak),
// "evaluation", "note", "summary". A start of the run first cuts the records that it supersedes
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

// A training run over all its starts and resumes. What a later start did again counts once.
struct RunHistory {
  std::vector<RunStart> runs;  // by first_iteration, ascending
  std::vector<StepRecord> steps;
  std::vector<EvaluationRecord> evaluations;
  std::vector<RunNote> notes;
  std::vector<RunSummary> summaries;

  // Each drops what it supersedes: a step those from its iteration on, a run all after its start,
  // an evaluation an earlier one of the same split and iteration.
  void add(RunStart run);
  void add(const StepRecord& record);
  void add(EvaluationRecord record);
  void add(RunNote note);
  void add(RunSummary summary);
};

// Where the events of the log at `path` are: "events" goes before the last extension.
std::string event_log_path(const std::string& path);

// Empty where neither file exists. Lines that are not whole records (a killed run's last one) are
// left out; an existing log of which no line is a record is an Error.
RunHistory read_json_log(const std::string& path);

// Removes the records after iteration `first_iteration` from the end of the log at `path` and of its
// events, for a run that does these steps again. They are appended to metrics.superseded.jsonl and
// metrics.events.superseded.jsonl (for metrics.jsonl). Lines that are no records of a log stay, and
// so does all before them. Returns the number of records removed. Does nothing where `path` is empty
// or not a regular file. Throws Error where a file cannot be written.
int64_t cut_json_log(const std::string& path, int64_t first_iteration);

class JsonLog {
 public:
  // Appends to the files of an earlier run. Throws Error where they cannot be written. A device or
  // pipe
  // (/dev/stdout) gets steps alone.
  JsonLog(const std::string& path, const RunStart& run);

  // False where the record could not be written; error() says why.
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
