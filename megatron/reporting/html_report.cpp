// Builds the report page from a run's history. Charts are drawn in svg_chart.cpp.
#include "megatron/reporting/html_report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <unistd.h>

#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/base/progress_bar.h"
#include "megatron/reporting/html_report_style.h"
#include "megatron/reporting/step_line.h"
#include "megatron/reporting/svg_chart.h"

namespace megatron {
namespace {

constexpr size_t kMaxNotes = 100;

using Points = std::vector<ChartPoint>;

template <typename Value>
Points points_of(const RunHistory& history, const Value& value) {
  Points points;
  points.reserve(history.steps.size());
  for (const auto& record : history.steps) {
    points.push_back({static_cast<double>(record.iteration), value(record)});
  }
  return points;
}

// Two-sided exponential moving average over about 1/50 of the run. Unlike a one-sided average it
// does not lag behind a falling curve; at the ends it uses the points of one side.
Points smoothed(const Points& points) {
  const double decay = 1 - 1 / std::max(3.0, static_cast<double>(points.size()) / 100);
  Points out(points.size());
  std::vector<double> weights(points.size());
  double sum = 0, weight = 0;
  const auto take = [&](const ChartPoint& point) {
    sum *= decay;
    weight *= decay;
    if (!std::isfinite(point.y)) return;
    sum += point.y;
    weight += 1;
  };
  for (size_t i = 0; i < points.size(); ++i) {
    take(points[i]);
    out[i] = {points[i].x, sum};
    weights[i] = weight;
  }
  sum = weight = 0;
  for (size_t i = points.size(); i-- > 0;) {
    // Read before this point is added, so that the point counts once.
    out[i].y = (out[i].y + decay * sum) / (weights[i] + decay * weight);
    take(points[i]);
  }
  return out;
}

// "2026-01-02T03:04:05Z" -> "2026-01-02 03:04:05".
std::string readable_time(std::string time) {
  std::replace(time.begin(), time.end(), 'T', ' ');
  if (!time.empty() && time.back() == 'Z') time.pop_back();
  return time;
}

// The parallel sizes of a layout's description: its text up to the first comma outside parentheses.
std::string short_layout(const std::string& layout) {
  int depth = 0;
  for (size_t i = 0; i < layout.size(); ++i) {
    depth += layout[i] == '(' ? 1 : layout[i] == ')' ? -1 : 0;
    if (layout[i] == ',' && depth == 0) return layout.substr(0, i);
  }
  return layout;
}

std::vector<ChartMark> resume_marks(const RunHistory& history) {
  std::vector<ChartMark> marks;
  for (const auto& run : history.runs) {
    const auto& description = run.description;
    if (description.first_iteration == 0) continue;
    const auto& layout = description.layout;
    marks.push_back({static_cast<double>(description.first_iteration),
                     "resumed: " + short_layout(layout),
                     fmt::format("resumed after step {} at {} UTC: {}", description.first_iteration,
                                 readable_time(run.time), layout)});
  }
  return marks;
}

bool spans_decades(const Points& points) {
  double low = INFINITY, high = 0;
  for (const auto& point : points) {
    if (!std::isfinite(point.y) || point.y <= 0) continue;
    low = std::min(low, point.y);
    high = std::max(high, point.y);
  }
  return high > 30 * low;
}

std::string small_chart(const RunHistory& history, std::string title, Points points, bool smooth) {
  Chart chart;
  chart.title = title;
  chart.x_label = "step";
  chart.y_label = std::move(title);
  chart.width = 480;
  chart.height = 240;
  chart.log_y = smooth && spans_decades(points);
  if (smooth) {
    const auto mean = smoothed(points);
    chart.lines.push_back({"training", std::move(points), false});
    chart.lines.push_back({"smooth", mean, false});
  } else {
    chart.lines.push_back({"smooth", std::move(points), false});
  }
  for (auto& mark : resume_marks(history)) chart.marks.push_back({mark.x, "", mark.tooltip});
  return "<section>\n<h2>" + escape_html(chart.title) + "</h2>\n" + svg_chart(chart) +
         "</section>\n";
}

std::string loss_section(const RunHistory& history) {
  Chart chart;
  chart.title = "Loss by training step";
  chart.x_label = "step";
  chart.y_label = "loss (nats per token)";
  const auto training = points_of(history, [](const StepRecord& r) { return r.loss; });
  chart.lines = {{"training", training, false}, {"smooth", smoothed(training), false}};
  ChartLine validation{"validation", {}, true};
  for (const auto& record : history.evaluations) {
    if (record.split != "validation") continue;
    validation.points.push_back({static_cast<double>(record.iteration), record.loss});
  }
  const bool any_validation = !validation.points.empty();
  chart.lines.push_back(std::move(validation));
  chart.marks = resume_marks(history);

  const auto key = [](const char* name, const char* text) {
    return fmt::format("<span><i style=\"background: var(--{})\"></i>{}</span>\n", name, text);
  };
  std::string out = "<section class=\"curve\">\n<h2>Loss</h2>\n<div class=\"legend\">\n";
  out += key("training", "training, each step") + key("smooth", "training, smoothed");
  if (any_validation) out += key("validation", "validation");
  if (!chart.marks.empty()) out += key("resume", "resumed from a checkpoint");
  out += "<label><input type=\"checkbox\" id=\"log-steps\"/> logarithmic steps</label>\n</div>\n";
  out += "<div class=\"linear\">\n" + svg_chart(chart) + "</div>\n";
  chart.log_x = true;
  out += "<div class=\"log\">\n" + svg_chart(chart) + "</div>\n";
  const auto lost = std::count_if(training.begin(), training.end(),
                                  [](const ChartPoint& p) { return !std::isfinite(p.y); });
  if (lost > 0) {
    out += fmt::format(
        "<p class=\"muted\">{} step{} with a loss that is not finite {} not drawn.</p>\n", lost,
        lost == 1 ? "" : "s", lost == 1 ? "is" : "are");
  }
  return out + "</section>\n";
}

// Two charts per MTP depth, with gaps in steps without MTP.
std::string prediction_charts(const RunHistory& history) {
  size_t depths = 0;
  for (const auto& record : history.steps) depths = std::max(depths, record.mtp.size());
  std::string out;
  for (size_t depth = 0; depth < depths; ++depth) {
    const auto chart = [&](const char* what, double MtpRecord::*value) {
      const auto points = points_of(history, [&](const StepRecord& r) {
        return depth < r.mtp.size() ? r.mtp[depth].*value : NAN;
      });
      return small_chart(history, fmt::format("prediction {}: {}", depth + 1, what), points, true);
    };
    out += "<div class=\"pair\">\n" + chart("loss (nats per token)", &MtpRecord::loss) +
           chart("acceptance rate (%)", &MtpRecord::acceptance_rate) + "</div>\n";
  }
  return out;
}

const EvaluationRecord* last_evaluation(const RunHistory& history, const std::string& split) {
  const auto found = std::find_if(history.evaluations.rbegin(), history.evaluations.rend(),
                                  [&](const EvaluationRecord& r) { return r.split == split; });
  return found == history.evaluations.rend() ? nullptr : &*found;
}

// Averages over the last run's steps, without the first one (warm-up) if there are others.
struct Speed {
  double step_ms = 0, tokens_per_s = 0, tflops = 0, peak_fraction = 0, memory_mib = 0;
};

Speed mean_speed(const RunHistory& history, int64_t after, int64_t until) {
  Speed total;
  double milliseconds = 0, count = 0;
  bool peak_known = true;  // for every step
  std::vector<const StepRecord*> records;
  for (const auto& record : history.steps) {
    if (record.iteration > after && record.iteration <= until) records.push_back(&record);
  }
  if (records.size() > 1) records.erase(records.begin());
  for (const auto* record : records) {
    if (!std::isfinite(record->step_ms)) continue;
    milliseconds += record->step_ms;
    ++count;
    total.tokens_per_s += record->tokens_per_s * record->step_ms;
    total.tflops += record->model_tflops * record->step_ms;
    peak_known &= record->gemm_peak_fraction > 0;
    total.peak_fraction += record->gemm_peak_fraction * record->step_ms;
    total.memory_mib = std::max(total.memory_mib, record->memory_mib);
  }
  if (milliseconds > 0) {
    total.step_ms = milliseconds / count;
    total.tokens_per_s /= milliseconds;
    total.tflops /= milliseconds;
    total.peak_fraction = peak_known ? total.peak_fraction / milliseconds : 0;
  }
  return total;
}

// The steps of run `i` are those after `first` and up to `second` of the result.
std::pair<int64_t, int64_t> steps_of_run(const RunHistory& history, size_t i) {
  const int64_t end = i + 1 < history.runs.size()
                          ? history.runs[i + 1].description.first_iteration
                          : (history.steps.empty() ? 0 : history.steps.back().iteration);
  return {history.runs[i].description.first_iteration, end};
}

std::string tflops_of(const Speed& speed) {
  if (speed.tflops <= 0) return "";
  return speed.peak_fraction > 0
             ? fmt::format("{:.3g} ({:.0f}% of peak)", speed.tflops, 100 * speed.peak_fraction)
             : fmt::format("{:.3g}", speed.tflops);
}

std::string cards(const RunHistory& history) {
  std::string out = "<div class=\"cards\">\n";
  const auto card = [&](const std::string& value, const std::string& name) {
    out += fmt::format("<div class=\"card\"><b>{}</b><span>{}</span></div>\n", escape_html(value),
                       escape_html(name));
  };
  if (!history.steps.empty()) {
    const auto& last = history.steps.back();
    const int64_t total = history.runs.empty() ? 0 : history.runs.back().description.train_iters;
    card(total > 0 ? fmt::format("{} / {}", last.iteration, total) : std::to_string(last.iteration),
         "steps");
    card(fmt::format(
             "{:.4f}",
             smoothed(points_of(history, [](const StepRecord& r) { return r.loss; })).back().y),
         "training loss, smoothed");
  }
  for (const std::string split : {"validation", "test"}) {
    const auto* record = last_evaluation(history, split);
    if (record == nullptr) continue;
    card(fmt::format("{:.4f}", record->loss), split + " loss");
    if (record->bits_per_byte) {
      card(fmt::format("{:.3f}", *record->bits_per_byte), split + ", bits per byte");
    }
  }
  if (!history.steps.empty()) {
    const auto speed =
        history.runs.empty()
            ? mean_speed(history, 0, history.steps.back().iteration)
            : mean_speed(history, steps_of_run(history, history.runs.size() - 1).first,
                         history.steps.back().iteration);
    card(format_quantity(speed.tokens_per_s), "tokens per second");
    card(fmt::format("{:.4g}", speed.step_ms), "ms per step");
    if (speed.tflops > 0) card(fmt::format("{:.3g}", speed.tflops), "TFLOP/s");
  }
  return out + "</div>\n";
}

std::string table_row(const std::vector<std::string>& cells, const char* tag, size_t first_number) {
  std::string out = "<tr>";
  for (size_t i = 0; i < cells.size(); ++i) {
    out += fmt::format("<{0}{1}>{2}</{0}>", tag, i >= first_number ? " class=\"number\"" : "",
                       escape_html(cells[i]));
  }
  return out + "</tr>\n";
}

std::string runs_section(const RunHistory& history) {
  if (history.runs.empty()) return "";
  std::string out = "<section>\n<h2>Layout and speed</h2>\n<table class=\"runs\">\n";
  out += table_row({"started (UTC)", "layout", "steps", "tokens/s", "ms/step", "TFLOP/s", "memory"},
                   "th", 3);
  for (size_t i = 0; i < history.runs.size(); ++i) {
    const auto [after, until] = steps_of_run(history, i);
    const auto speed = mean_speed(history, after, until);
    const bool any = speed.step_ms > 0;
    out += table_row({readable_time(history.runs[i].time), history.runs[i].description.layout,
                      until > after ? fmt::format("{} to {}", after + 1, until) : "none",
                      any ? format_quantity(speed.tokens_per_s) : "",
                      any ? fmt::format("{:.4g}", speed.step_ms) : "", tflops_of(speed),
                      speed.memory_mib > 0 ? fmt::format("{:.0f} MiB", speed.memory_mib) : ""},
                     "td", 3);
  }
  out += "</table>\n";
  for (const auto& stage : history.runs.back().description.stages) {
    out += "<p class=\"muted\">" + escape_html(stage) + "</p>\n";
  }
  return out + "</section>\n";
}

std::string results_section(const RunHistory& history) {
  std::string out;
  for (const auto& summary : history.summaries) {
    out += "<section>\n<h2>" + escape_html(summary.title) + "</h2>\n<table>\n";
    for (const auto& [name, value] : summary.rows) out += table_row({name, value}, "td", 2);
    out += "</table>\n</section>\n";
  }
  if (history.evaluations.empty()) return out;
  out += "<section>\n<details>\n<summary>Evaluations</summary>\n<table>\n";
  out += table_row({"split", "step", "loss", "perplexity", "bits per byte"}, "th", 1);
  for (const auto& record : history.evaluations) {
    out +=
        table_row({record.split, std::to_string(record.iteration),
                   fmt::format("{:.4f}", record.loss), fmt::format("{:.4g}", std::exp(record.loss)),
                   record.bits_per_byte ? fmt::format("{:.4f}", *record.bits_per_byte) : ""},
                  "td", 1);
  }
  return out + "</table>\n</details>\n</section>\n";
}

std::string settings_section(const RunHistory& history) {
  if (history.runs.empty() || history.runs.back().description.settings.empty()) return "";
  std::string out =
      "<section>\n<h2>Options that differ from their defaults</h2>\n<dl class=\"settings\">\n";
  for (const auto& [name, value] : history.runs.back().description.settings) {
    out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", escape_html(name),
                       value.empty() ? "(none)" : escape_html(value));
  }
  return out + "</dl>\n</section>\n";
}

std::string notes_section(const RunHistory& history) {
  if (history.notes.empty()) return "";
  std::string out = "<section>\n<details>\n<summary>Notes</summary>\n<table>\n";
  const size_t left_out = history.notes.size() - std::min(history.notes.size(), kMaxNotes);
  if (left_out > 0) out += table_row({"", fmt::format("({} earlier ones)", left_out)}, "td", 2);
  for (size_t i = left_out; i < history.notes.size(); ++i) {
    out += table_row({fmt::format("step {}", history.notes[i].iteration), history.notes[i].text},
                     "td", 2);
  }
  return out + "</table>\n</details>\n</section>\n";
}

bool same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return std::filesystem::weakly_canonical(a, ignored) ==
         std::filesystem::weakly_canonical(b, ignored);
}

}  // namespace

std::string html_report(const RunHistory& history) {
  const std::string title = history.runs.empty() ? "" : history.runs.back().description.title;
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n";
  out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
  out +=
      fmt::format("<title>Training run: {}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n",
                  escape_html(title), kReportStyle);
  out += "<p class=\"muted\">megatron training run</p>\n<h1>" +
         escape_html(title.empty() ? "Untitled" : title) + "</h1>\n";
  if (!history.runs.empty()) {
    const auto& run = history.runs.back();
    out += fmt::format("<p class=\"muted\">{} &#183; {} UTC</p>\n",
                       escape_html(run.description.layout), escape_html(readable_time(run.time)));
  }
  out += cards(history) + loss_section(history);
  out += "<div class=\"pair\">\n";
  out += small_chart(history, "gradient norm",
                     points_of(history, [](const StepRecord& r) { return r.grad_norm; }), true);
  out +=
      small_chart(history, "learning rate",
                  points_of(history, [](const StepRecord& r) { return r.learning_rate; }), false);
  out += "</div>\n" + prediction_charts(history);
  out += results_section(history) + runs_section(history) + settings_section(history) +
         notes_section(history);
  return out + "</main>\n</body>\n</html>\n";
}

void write_html_report(const RunHistory& history, const std::string& report_path) {
  check_report_path("", report_path);
  const auto temporary = fmt::format("{}.{}.tmp", report_path, getpid());
  std::error_code error;
  std::filesystem::remove(temporary, error);
  try {
    LogFile file("--report", temporary, LogFile::Mode::create_new);
    check(
        file.append(html_report(history)),
        "Expected space for the file of --report, but got '{}' for '{}'; free some space or give a "
        "path on another disk",
        file.error(), report_path);
    std::filesystem::rename(temporary, report_path, error);
    check(!error,
          "Expected --report to name a file that can be replaced, but got '{}' ({}); give "
          "another path",
          report_path, error.message());
  } catch (...) {
    std::filesystem::remove(temporary, error);
    throw;
  }
}

void write_html_report(const std::string& json_log_path, const std::string& report_path) {
  check(std::filesystem::is_regular_file(json_log_path),
        "Expected the log of a run, but got '{}', which is not a file; give the file of --log-json",
        json_log_path);
  check_report_path(json_log_path, report_path);
  write_html_report(read_json_log(json_log_path), report_path);
}

void check_report_path(const std::string& json_log_path, const std::string& report_path) {
  std::error_code ignored;
  check(!std::filesystem::exists(report_path, ignored) ||
            std::filesystem::is_regular_file(report_path, ignored),
        "Expected --report to name a file, but got '{}', which is a folder or a device; give the "
        "path of a file",
        report_path);
  if (json_log_path.empty()) return;
  check(!same_file(report_path, json_log_path) &&
            !same_file(report_path, event_log_path(json_log_path)),
        "Expected --report to differ from the files of --log-json, but got '{}' for both; give the "
        "report another name, such as report.html",
        report_path);
}

}  // namespace megatron
