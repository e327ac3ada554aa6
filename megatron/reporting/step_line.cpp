// Column widths fit typical training runs. A number outside of them loses digits and stays aligned.
#include "megatron/reporting/step_line.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "megatron/base/progress_bar.h"
#include "megatron/reporting/terminal.h"

namespace megatron {
namespace {

std::string milliseconds_text(double ms) {
  return ms < 9999.95 || !std::isfinite(ms) ? fitted_number(ms, 6, 1) + " ms"
                                            : fitted_number(ms / 1000, 6, 1) + " s ";
}

std::string memory_text(double mib) {
  return mib < 99999.5 ? fmt::format("{:>5.0f} MiB", mib) : fmt::format("{:>5.0f} GiB", mib / 1024);
}

// Four decimals for small rates, which two would round to 0.
std::string tflops_text(double tflops) {
  return fitted_number(tflops, 6, tflops < 0.1 ? 4 : 2) + " TFLOP/s";
}

// MTP losses by depth.
std::string mtp_text(const std::vector<MtpRecord>& depths) {
  std::string text = "mtp";
  for (const MtpRecord& depth : depths) text += " " + fitted_number(depth.loss, 7, 4);
  return text;
}

// Losses and loads, as means over the layers with experts.
std::string moe_text(const std::vector<MoeLayerRecord>& layers) {
  std::vector<std::pair<std::string, double>> losses;
  double load = 0, dropped = 0;
  for (const MoeLayerRecord& layer : layers) {
    losses.resize(std::max(losses.size(), layer.losses.size()));
    for (size_t i = 0; i < layer.losses.size(); ++i) {
      losses[i].first = layer.losses[i].first;
      losses[i].second += layer.losses[i].second / double(layers.size());
    }
    load += layer.load / double(layers.size());
    dropped += layer.dropped;
  }
  std::string text = fmt::format("load {:.2f}", load);
  for (const auto& [name, value] : losses)
    text += fmt::format(" {} {}", name.starts_with("z_") ? "z" : "aux", fitted_number(value, 6, 4));
  if (dropped > 0) text += fmt::format(" dropped {}", format_quantity(dropped));
  return text;
}

std::string step_counter(int64_t iteration, int64_t train_iters) {
  const auto last = std::to_string(train_iters);
  return fmt::format("step {:>{}}/{}", iteration, last.size(), last);
}

}  // namespace

void SmoothedStepTime::add(double step_ms) {
  if (!std::isfinite(step_ms)) return;
  ++count_;
  // A plain mean of the first 20 steps, then an exponential average with weight 1/20.
  const double weight = count_ <= 2 ? 1.0 : std::max(0.05, 1.0 / static_cast<double>(count_ - 1));
  mean_ += weight * (step_ms - mean_);
}

void StepMeans::add(const StepRecord& record) {
  ++count_;
  sum_.loss += record.loss;
  sum_.mtp.resize(record.mtp.size());
  for (size_t i = 0; i < record.mtp.size(); ++i) sum_.mtp[i].loss += record.mtp[i].loss;
  sum_.step_ms += record.step_ms;
  sum_.tokens_per_s += record.tokens_per_s * record.step_ms;
  sum_.model_tflops += record.model_tflops * record.step_ms;
  peak_known_ &= record.gemm_peak_fraction > 0;
  sum_.gemm_peak_fraction += record.gemm_peak_fraction * record.step_ms;
  last_ = record;
}

StepRecord StepMeans::take() {
  StepRecord mean = last_;
  if (count_ > 1) {
    mean.loss = sum_.loss / count_;
    for (size_t i = 0; i < mean.mtp.size(); ++i) mean.mtp[i].loss = sum_.mtp[i].loss / count_;
    mean.step_ms = sum_.step_ms / count_;
    if (sum_.step_ms > 0) {
      mean.tokens_per_s = sum_.tokens_per_s / sum_.step_ms;
      mean.model_tflops = sum_.model_tflops / sum_.step_ms;
      mean.gemm_peak_fraction = peak_known_ ? sum_.gemm_peak_fraction / sum_.step_ms : 0;
    }
  }
  *this = StepMeans();
  return mean;
}

std::string StepLine::format(const StepRecord& record, double smoothed_step_ms, int max_width) {
  if (!columns_) {
    columns_ =
        Columns{record.model_tflops > 0, record.gemm_peak_fraction > 0, record.memory_mib > 0};
  }
  struct Field {
    std::string text;
    int importance;  // 0: always shown
  };
  std::vector<Field> fields = {
      {step_counter(record.iteration, train_iters_), 0},
      {"loss " + fitted_number(record.loss, 7, 4), 0},
      {"grad norm " + fitted_number(record.grad_norm, 6, 3), 1},
      {fmt::format("lr {:.3e}", record.learning_rate), 3},
      {milliseconds_text(record.step_ms), 2},
      {fmt::format("{:>5} tok/s", format_quantity(record.tokens_per_s)), 4},
  };
  if (record.loss_scale > 0)
    fields.insert(fields.begin() + 3, {fmt::format("loss scale {:.1f}", record.loss_scale), 2});
  if (!record.mtp.empty()) fields.insert(fields.begin() + 2, {mtp_text(record.mtp), 2});
  if (!record.moe.empty()) fields.insert(fields.begin() + 2, {moe_text(record.moe), 4});
  if (shows_batch_size_)
    fields.insert(fields.begin() + 1, {fmt::format("batch {:>5}", record.batch_size), 1});
  if (const auto& low = record.low_precision) {
    fields.push_back(
        {fmt::format("{} saturated {} to zero {}", low->recipe, format_quantity(low->saturated),
                     format_quantity(low->underflowed)),
         6});
  }
  if (columns_->tflops) {
    std::string text = tflops_text(record.model_tflops);
    if (columns_->peak_fraction) {
      const auto share = fmt::format("({:.0f}% of peak)", 100 * record.gemm_peak_fraction);
      text += fmt::format(" {:<13}", record.gemm_peak_fraction > 0 ? share : "");
    }
    fields.push_back({text, 6});
  }
  if (columns_->memory) fields.push_back({memory_text(record.memory_mib), 7});
  const double remaining =
      static_cast<double>(std::max<int64_t>(0, train_iters_ - record.iteration));
  fields.push_back(
      {fmt::format("{:>7} left", duration_text(remaining * smoothed_step_ms / 1000)), 5});

  const auto joined = [&] {
    std::string line;
    for (const auto& field : fields) line += (line.empty() ? "" : " | ") + field.text;
    return line;
  };
  std::string line = joined();
  while (display_width(line) > max_width) {
    const auto least = std::max_element(
        fields.begin(), fields.end(),
        [](const Field& a, const Field& b) { return a.importance < b.importance; });
    if (least->importance == 0) break;
    fields.erase(least);
    line = joined();
  }
  return line;
}

std::string evaluation_line(const EvaluationRecord& record, int64_t train_iters) {
  std::string line = fmt::format("{} | {} loss {:.4f} | perplexity {:.4g}",
                                 step_counter(record.iteration, train_iters), record.split,
                                 record.loss, std::exp(record.loss));
  if (record.bits_per_byte) line += fmt::format(" | {:.4f} bits per byte", *record.bits_per_byte);
  return line;
}

std::string duration_text(double seconds) {
  if (!(seconds < 1e9)) return "?";
  const auto total = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  const int64_t hours = total / 3600, minutes = total / 60 % 60;
  if (hours >= 100) return fmt::format("{}d{:02}h", hours / 24, hours % 24);
  if (hours >= 10) return fmt::format("{}h{:02}m", hours, minutes);
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60);
  return fmt::format("{}:{:02}", minutes, total % 60);
}

std::string fitted_number(double value, int width, int decimals) {
  const auto fits = [&](const std::string& text) {
    return text.size() <= static_cast<size_t>(width);
  };
  std::string text;
  for (int digits = decimals; digits >= 0 && std::abs(value) < 1e15; --digits) {
    text = fmt::format("{:.{}f}", value, digits);
    if (fits(text)) break;
  }
  for (int digits = 2; digits >= 0 && (text.empty() || !fits(text)); --digits) {
    text = fmt::format("{:.{}e}", value, digits);
  }
  return fmt::format("{:>{}}", text, width);
}

}  // namespace megatron
