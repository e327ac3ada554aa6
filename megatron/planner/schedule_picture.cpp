#include "megatron/planner/schedule_picture.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr double kMargin = 20, kLabels = 132, kTop = 74, kRow = 40, kGap = 8, kBottom = 48;
constexpr double kLeastForNumber = 15;  // narrowest box with a micro-batch number, in pixels
constexpr size_t kMostSteps = 50'000;
constexpr int kShades = 4;  // the fifth chunk has the colour of the first

// Forward is blue, backward orange; chunks differ in shade.
constexpr const char* kStyle = R"(<style>
svg { color-scheme: light dark; --page: #ffffff; --text: #1d2330; --muted: #667085; --rule: #dfe4ec;
  --idle: #f1f3f7; --on: #ffffff; --on-pale: #1d2330;
  --f0: #2457c5; --f1: #5c8df0; --f2: #8fb3fa; --f3: #bcd3ff;
  --b0: #c2470f; --b1: #e8743b; --b2: #f5a071; --b3: #ffcdb0; }
@media (prefers-color-scheme: dark) { svg { --page: #12151b; --text: #e6e9ef; --muted: #98a2b3;
  --rule: #2d3440; --idle: #1d232d; --on: #ffffff; --on-pale: #0d1016;
  --f0: #2f62d0; --f1: #6d9bff; --f2: #98b9ff; --f3: #c5d8ff;
  --b0: #c2470f; --b1: #f08a55; --b2: #ffb08a; --b3: #ffd6c2; } }
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--muted); }
.page { fill: var(--page); } .idle { fill: var(--idle); } .grid { stroke: var(--rule); }
.title { font-size: 16px; font-weight: 600; fill: var(--text); }
.rank { font-size: 13px; fill: var(--text); }
.number { font-size: 11px; text-anchor: middle; font-variant-numeric: tabular-nums; }
.tick { text-anchor: middle; font-variant-numeric: tabular-nums; }
.n0 { fill: var(--on); } .n1, .n2, .n3 { fill: var(--on-pale); }
.f0 { fill: var(--f0); } .f1 { fill: var(--f1); } .f2 { fill: var(--f2); } .f3 { fill: var(--f3); }
.b0 { fill: var(--b0); } .b1 { fill: var(--b1); } .b2 { fill: var(--b2); } .b3 { fill: var(--b3); }
</style>
)";

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else {
      result += c;
    }
  }
  return result;
}

bool is_forward(const PipelineStep& step) {
  return step.kind == PipelineStep::Kind::forward;
}

class Picture {
 public:
  Picture(const ScheduleTimeline& timeline, const PictureText& text)
      : timeline_(timeline), text_(text), unit_(std::clamp(1080 / timeline.duration, 20.0, 60.0)) {
    for (const auto& steps : timeline.stages) {
      steps_ += steps.size();
      for (const TimedStep& timed : steps) {
        chunks_ = std::max(chunks_, timed.step.chunk + 1);
        has_backward_ |= !is_forward(timed.step);
      }
    }
    check(steps_ <= kMostSteps,
          "Expected a schedule of at most {} steps to draw, but got {}; fewer micro-batches show "
          "the same pattern",
          kMostSteps, steps_);
    unit_ = std::min(unit_, 24'000 / timeline.duration);
    width_ = std::max(kLabels + timeline.duration * unit_ + kMargin, 640.0);
    height_ = kTop + double(timeline.stages.size()) * (kRow + kGap) + kBottom;
  }

  std::string draw() {
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
        "width=\"{0:.0f}\" height=\"{1:.0f}\" role=\"img\">\n<title>{2}</title>\n{3}"
        "<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n"
        "<text class=\"title\" x=\"{4:.0f}\" y=\"30\">{2}</text>\n",
        width_, height_, escaped(text_.title), kStyle, kMargin);
    legend();
    for (size_t stage = 0; stage < timeline_.stages.size(); ++stage) row(stage);
    axis();
    return out_ + "</svg>\n";
  }

 private:
  double x(double time) const { return kLabels + time * unit_; }
  static double y(size_t stage) { return kTop + double(stage) * (kRow + kGap); }

  void legend() {
    double at = kMargin;
    const auto entry = [&](const std::string& style, const std::string& name) {
      out_ += fmt::format(
          "<rect class=\"{}\" x=\"{:.0f}\" y=\"43\" width=\"14\" height=\"14\" rx=\"3\"/>"
          "<text x=\"{:.0f}\" y=\"54\">{}</text>\n",
          style, at, at + 20, name);
      at += 34 + 7.0 * double(name.size());
    };
    for (const char kind : {'f', 'b'}) {
      if (kind == 'b' && !has_backward_) continue;
      for (int chunk = 0; chunk < std::min(chunks_, kShades); ++chunk) {
        std::string name = kind == 'f' ? "forward" : "backward";
        if (chunks_ > 1) name += fmt::format(", chunk {}", chunk);
        entry(fmt::format("{}{}", kind, chunk), name);
      }
    }
    entry("idle", "idle");
  }

  void row(size_t stage) {
    const bool has_text = stage < text_.stages.size() && !text_.stages[stage].empty();
    out_ += fmt::format("<text class=\"rank\" x=\"{:.0f}\" y=\"{:.1f}\">stage {}</text>\n", kMargin,
                        y(stage) + (has_text ? 17 : 25), stage);
    if (has_text)
      out_ += fmt::format("<text x=\"{:.0f}\" y=\"{:.1f}\">{}</text>\n", kMargin, y(stage) + 33,
                          escaped(text_.stages[stage]));
    out_ += fmt::format(
        "<rect class=\"idle\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.0f}\" "
        "rx=\"4\"/>\n",
        x(0), y(stage), timeline_.duration * unit_, kRow);
    for (const TimedStep& timed : timeline_.stages[stage]) box(stage, timed);
  }

  void box(size_t stage, const TimedStep& timed) {
    const double width = (timed.end - timed.start) * unit_;
    const int shade = timed.step.chunk % kShades;
    const bool forward = is_forward(timed.step);
    out_ += fmt::format(
        "<g><title>stage {}: {} of micro-batch {}{}, {:g} to {:g}</title><rect class=\"{}{}\" "
        "x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.0f}\" rx=\"3\"/>",
        stage, forward ? "forward" : "backward", timed.step.microbatch,
        chunks_ > 1 ? fmt::format(", chunk {}", timed.step.chunk) : "", timed.start, timed.end,
        forward ? 'f' : 'b', shade, x(timed.start) + 0.5, y(stage) + 1, std::max(width - 1, 0.5),
        kRow - 2);
    if (width >= kLeastForNumber) {
      out_ += fmt::format("<text class=\"number n{}\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>",
                          std::min(shade, 3), x(timed.start) + width / 2, y(stage) + kRow / 2 + 4,
                          timed.step.microbatch);
    }
    out_ += "</g>\n";
  }

  void axis() {
    const double below = y(timeline_.stages.size()) + 4;
    const double wanted = timeline_.duration / 12,
                 power = std::pow(10, std::floor(std::log10(wanted)));
    const double every = power * (wanted / power <= 1   ? 1
                                  : wanted / power <= 2 ? 2
                                  : wanted / power <= 5 ? 5
                                                        : 10);
    for (double time = 0; time <= timeline_.duration * (1 + 1e-9); time += every) {
      out_ += fmt::format(
          "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\"/>"
          "<text class=\"tick\" x=\"{0:.1f}\" y=\"{3:.1f}\">{4:g}</text>\n",
          x(time), below - 4, below + 2, below + 16, time);
    }
    out_ += fmt::format("<text x=\"{:.0f}\" y=\"{:.1f}\">{}</text>\n", kLabels, below + 34,
                        escaped(text_.unit));
  }

  const ScheduleTimeline& timeline_;
  const PictureText& text_;
  double unit_, width_ = 0, height_ = 0;
  int chunks_ = 1;
  bool has_backward_ = false;
  size_t steps_ = 0;
  std::string out_;
};

}  // namespace

std::string schedule_picture(const ScheduleTimeline& timeline, const PictureText& text) {
  return Picture(timeline, text).draw();
}

}  // namespace megatron
