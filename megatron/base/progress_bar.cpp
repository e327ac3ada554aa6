#include "megatron/base/progress_bar.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

namespace megatron {
namespace {

double steady_seconds() {
  using Seconds = std::chrono::duration<double>;
  return Seconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The first `columns` code points of UTF-8 text.
std::string clipped(std::string_view text, int columns) {
  size_t end = 0;
  for (int column = 0; end < text.size(); ++column) {
    if (column == columns) break;
    ++end;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
  }
  return std::string(text.substr(0, end));
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto whole = static_cast<int64_t>(std::min(std::round(seconds), 9e15));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
  return fmt::format("{}d{:02}h", whole / 86400, whole / 3600 % 24);
}

std::string format_quantity(double value) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t prefix = 0;
  // 999.5 and above would print as 1000.
  while (std::abs(value) >= 999.5 && prefix + 1 < std::size(kPrefixes)) {
    value /= 1000;
    ++prefix;
  }
  if (prefix == 0 && value == std::floor(value)) return fmt::format("{:.0f}", value);
  const double size = std::abs(value);
  const int digits = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, digits, kPrefixes[prefix]);
}

ProgressBar::ProgressBar(ProgressBarOptions options) : options_(std::move(options)) {
  terminal_ = options_.terminal.value_or(isatty(fileno(options_.stream)) == 1);
  if (!options_.seconds_elapsed) options_.seconds_elapsed = steady_seconds;
  start_ = options_.seconds_elapsed();
  last_ = terminal_ ? start_ - options_.terminal_interval : start_;
}

ProgressBar::~ProgressBar() {
  if (!finished_ && terminal_ && drawn_) {
    std::fputc('\n', options_.stream);
    std::fflush(options_.stream);
  }
}

double ProgressBar::elapsed() const {
  return options_.seconds_elapsed() - start_;
}

int ProgressBar::columns() const {
  if (options_.width) return *options_.width;
  winsize size{};
  if (terminal_ && ioctl(fileno(options_.stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return size.ws_col;
  }
  return 80;
}

std::string ProgressBar::text(int columns) const {
  const double seconds = elapsed();
  const double rate = seconds > 0 ? done_ / seconds : 0;
  std::string numbers;
  if (options_.total > 0) {
    const double share = std::clamp(done_ / options_.total, 0.0, 1.0);
    numbers = fmt::format("{:3.0f}% {}/{}{}", std::floor(100 * share), format_quantity(done_),
                          format_quantity(options_.total), options_.unit);
  } else {
    numbers = fmt::format("{}{}", format_quantity(done_), options_.unit);
  }
  numbers += fmt::format("  {}{}/s", format_quantity(rate), options_.unit);
  if (finished_) {
    numbers += fmt::format("  in {}", format_duration(seconds));
  } else if (options_.total > 0 && rate > 0) {
    numbers += fmt::format("  {} left", format_duration((options_.total - done_) / rate));
  }
  if (!detail_.empty()) numbers += fmt::format("  {}", detail_);
  if (!terminal_) return fmt::format("{}  {}", options_.label, numbers);

  const int bar = options_.total > 0 ? std::clamp(columns / 4, 0, 30) : 0;
  std::string drawing;
  if (bar >= 8) {
    const double share = std::clamp(done_ / options_.total, 0.0, 1.0);
    const int filled = static_cast<int>(share * bar);
    for (int i = 0; i < bar; ++i) drawing += i < filled ? "█" : "░";
    drawing += "  ";
  }
  // Some terminals wrap when the last column is written.
  return clipped(fmt::format("{}  {}{}", options_.label, drawing, numbers), columns - 1);
}

void ProgressBar::erase() {
  if (terminal_ && drawn_) std::fputs("\r\x1b[2K", options_.stream);
}

void ProgressBar::draw() {
  erase();
  std::fputs(text(columns()).c_str(), options_.stream);
  if (!terminal_) std::fputc('\n', options_.stream);
  std::fflush(options_.stream);
  drawn_ = true;
}

void ProgressBar::update(double done, std::string_view detail) {
  if (finished_) return;
  done_ = done;
  const double now = options_.seconds_elapsed();
  if (now - last_ < (terminal_ ? options_.terminal_interval : options_.line_interval)) return;
  last_ = now;
  detail_ = detail;
  draw();
}

void ProgressBar::print_line(std::string_view line) {
  erase();
  std::fwrite(line.data(), 1, line.size(), options_.stream);
  std::fputc('\n', options_.stream);
  if (terminal_ && drawn_ && !finished_) std::fputs(text(columns()).c_str(), options_.stream);
  std::fflush(options_.stream);
}

void ProgressBar::finish(std::string_view detail) {
  if (finished_) return;
  finished_ = true;
  if (!detail.empty()) detail_ = detail;
  draw();
  if (terminal_) {
    std::fputc('\n', options_.stream);
    std::fflush(options_.stream);
  }
}

}  // namespace megatron
