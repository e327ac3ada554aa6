// Passes each record to the terminal and to the files in the options.
#include "megatron/reporting/run_log.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <map>
#include <optional>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/reporting/evaluation_progress.h"
#include "megatron/reporting/event_file_cut.h"
#include "megatron/reporting/html_report.h"
#include "megatron/reporting/json_log.h"
#include "megatron/reporting/parameter_table.h"
#include "megatron/reporting/step_line.h"
#include "megatron/reporting/tensorboard_writer.h"

namespace megatron {
namespace {

// The shortest time between two updates of the progress bar.
constexpr auto kRedrawInterval = std::chrono::milliseconds(100);

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

// [=======-------------]  35.0% | step 210/600 | loss 3.2100 | 0:41 left
std::string progress_bar(const StepRecord& record, int64_t train_iters, double remaining_s,
                         const Terminal& terminal) {
  const double share =
      train_iters > 0
          ? std::clamp(static_cast<double>(record.iteration) / static_cast<double>(train_iters),
                       0.0, 1.0)
          : 1.0;
  std::string tail =
      fmt::format(" {:5.1f}% | step {}/{} | loss {:.4f} | {} left", 100 * share, record.iteration,
                  train_iters, record.loss, duration_text(remaining_s));
  const int available = terminal.width() - 1;  // a full last column would wrap
  const int cells = std::min(40, available - display_width(tail));
  if (cells < 5) {
    tail = fmt::format("{:5.1f}% | {} left", 100 * share, duration_text(remaining_s));
    return display_width(tail) <= available ? tail : "";
  }
  const int done = static_cast<int>(std::lround(share * cells));
  const std::string full = terminal.unicode() ? "━" : "=", empty = terminal.unicode() ? "─" : "-";
  std::string left, right;
  for (int i = 0; i < cells; ++i) (i < done ? left : right) += i < done ? full : empty;
  if (!terminal.color()) return left + right + tail;
  return "\x1b[32m" + left + "\x1b[0m\x1b[2m" + right + "\x1b[0m" + tail;
}

}  // namespace

class RunLog::Impl {
 public:
  Impl(const LoggingConfig& config, RunDescription description, std::unique_ptr<Terminal> terminal)
      : config_(config),
        description_(std::move(description)),
        terminal_(terminal ? std::move(terminal) : std::make_unique<Terminal>()),
        step_line_(description_.train_iters, description_.batch_size_grows),
        done_(description_.first_iteration) {
    check(config_.log_interval > 0, "Expected --log-interval of at least 1, but got {}; use 1",
          config_.log_interval);
    open_files();
    for (const auto& line : run_header(description_, terminal_->width())) terminal_->line(line);
    terminal_->line("");
    if (cut_ > 0) {
      note(fmt::format(
          "the logs held {} records after iteration {}: moved to files named 'superseded' beside "
          "them",
          cut_, description_.first_iteration));
    }
  }

  void step(const StepRecord& record) {
    done_ = record.iteration;
    consumed_samples_ = record.consumed_samples;
    step_time_.add(record.step_ms);
    means_.add(record);
    if (tensorboard_ && !tensorboard_->step(record, description_.world_size)) {
      warn("--tensorboard-dir", tensorboard_->file().error());
    }
    if (json_ && !json_->step(record)) warn("--log-json", json_->error());
    if (!config_.report.empty()) history_.add(record);

    const bool last = record.iteration == description_.train_iters;
    const bool print = record.iteration % config_.log_interval == 0 || last;
    if (print) print_pending_steps();
    if (last) {
      terminal_->clear_status();
    } else {
      draw_bar(record, print);
    }
  }

  void print_pending_steps() {
    if (means_.empty()) return;
    const int width = terminal_->interactive() ? terminal_->width() : 1 << 20;
    terminal_->line(step_line_.format(means_.take(), step_time_.milliseconds(), width));
  }

  void evaluation_progress(const EvaluationProgress& progress) {
    const std::string text = evaluation_progress_line(progress);
    if (terminal_->interactive()) {
      const auto time = std::chrono::steady_clock::now();
      if (drawn_ && time - *drawn_ < kRedrawInterval) return;
      drawn_ = time;
      if (display_width(text) < terminal_->width()) terminal_->status(text);
    } else if (evaluation_lines_.due(progress)) {
      terminal_->line(text);
    }
  }

  void evaluation(const EvaluationRecord& record) {
    terminal_->line(evaluation_line(record, description_.train_iters));
    if (tensorboard_ && !tensorboard_->evaluation(record, consumed_samples_)) {
      warn("--tensorboard-dir", tensorboard_->file().error());
    }
    terminal_->clear_status();  // of the evaluation; the next step draws its own
    if (json_ && !json_->evaluation(record)) warn("--log-json", json_->error());
    if (config_.report.empty()) return;
    history_.add(record);
    write_report();  // so that a running job can be inspected
  }

  void note(const std::string& line) {
    terminal_->line(line);
    const RunNote note{done_, line};
    if (json_ && !json_->note(note)) warn("--log-json", json_->error());
    if (!config_.report.empty()) history_.add(note);
  }

  void summary(const RunSummary& summary) {
    terminal_->clear_status();
    for (const auto& line : boxed(summary, terminal_->unicode())) terminal_->line(line);
    if (json_ && !json_->summary(summary)) warn("--log-json", json_->error());
    if (!config_.report.empty()) history_.add(summary);
  }

  std::string incomplete() const {
    std::string options = terminal_->complete() ? "" : "standard output";
    for (const auto& [option, reason] : warned_) {
      options += fmt::format("{}{}", options.empty() ? "" : ", ", option);
    }
    return options;
  }

  void finish() {
    if (finished_) return;
    finished_ = true;
    print_pending_steps();
    terminal_->clear_status();
    if (!config_.report.empty()) write_report();
    tensorboard_.reset();
    json_.reset();
  }

 private:
  void open_files() {
    const RunStart start{description_, utc_now()};
    if (!config_.report.empty()) {
      check_report_path(config_.log_json, config_.report);
      if (!config_.log_json.empty()) history_ = read_json_log(config_.log_json);
      history_.add(start);
      if (!history_.steps.empty()) consumed_samples_ = history_.steps.back().consumed_samples;
      write_html_report(history_, config_.report);
    }
    // Steps of an earlier start of the run after its last checkpoint will be done again.
    cut_ = cut_json_log(config_.log_json, description_.first_iteration) +
           cut_event_files(config_.tensorboard_dir, description_.first_iteration,
                           description_.first_consumed_samples);
    if (!config_.tensorboard_dir.empty()) {
      tensorboard_ = std::make_unique<TensorBoardWriter>(config_.tensorboard_dir);
    }
    if (!config_.log_json.empty()) json_ = std::make_unique<JsonLog>(config_.log_json, start);
  }

  void write_report() {
    try {
      write_html_report(history_, config_.report);
    } catch (const Error& error) {
      warn("--report", error.what());
    }
  }

  // Warns once per option.
  void warn(const std::string& option, const std::string& reason) {
    if (!warned_.emplace(option, reason).second) return;
    terminal_->clear_status();
    std::fflush(stdout);
    fmt::print(stderr,
               "warning: cannot write what {} asked for ({}); training goes on without it\n",
               option, printable(reason));
  }

  void draw_bar(const StepRecord& record, bool now) {
    if (!terminal_->interactive()) return;
    const auto time = std::chrono::steady_clock::now();
    if (!now && drawn_ && time - *drawn_ < kRedrawInterval) return;
    drawn_ = time;
    const auto steps_left = static_cast<double>(description_.train_iters - record.iteration);
    terminal_->status(progress_bar(record, description_.train_iters,
                                   steps_left * step_time_.milliseconds() / 1000, *terminal_));
  }

  LoggingConfig config_;
  RunDescription description_;
  std::unique_ptr<Terminal> terminal_;
  StepLine step_line_;
  SmoothedStepTime step_time_;
  StepMeans means_;
  EvaluationLines evaluation_lines_;
  std::unique_ptr<TensorBoardWriter> tensorboard_;
  std::unique_ptr<JsonLog> json_;
  RunHistory history_;
  std::map<std::string, std::string> warned_;
  std::optional<std::chrono::steady_clock::time_point> drawn_;
  int64_t done_ = 0, consumed_samples_ = 0;
  int64_t cut_ = 0;  // records of earlier starts that this run supersedes
  bool finished_ = false;
};

RunLog::RunLog(const LoggingConfig& config, RunDescription description,
               std::unique_ptr<Terminal> terminal)
    : impl_(std::make_unique<Impl>(config, std::move(description), std::move(terminal))) {}

// Write errors have been reported as warnings by now: only std::bad_alloc is possible here.
RunLog::~RunLog() {
  try {
    impl_->finish();
  } catch (const std::exception& error) {
    fmt::print(stderr, "warning: the run's log was not closed: {}\n", error.what());
  }
}

void RunLog::step(const StepRecord& record) {
  impl_->step(record);
}
void RunLog::evaluation(const EvaluationRecord& record) {
  impl_->evaluation(record);
}
void RunLog::evaluation_progress(const EvaluationProgress& progress) {
  impl_->evaluation_progress(progress);
}
void RunLog::print_pending_steps() {
  impl_->print_pending_steps();
}
void RunLog::note(const std::string& line) {
  impl_->note(line);
}
void RunLog::summary(const std::string& title, const NamedValues& rows) {
  impl_->summary({title, rows});
}
std::string RunLog::incomplete() const {
  return impl_->incomplete();
}

void RunLog::finish() {
  impl_->finish();
}

bool shows_step(const LoggingConfig& config, int64_t iteration, int64_t last_iteration) {
  return !config.tensorboard_dir.empty() || !config.log_json.empty() || !config.report.empty() ||
         iteration % config.log_interval == 0 || iteration == last_iteration;
}

}  // namespace megatron
