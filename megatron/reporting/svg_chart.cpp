// Draws axes, ticks, lines and marks. Legend and styling belong to the page.
#include "megatron/reporting/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "megatron/base/integer_math.h"

namespace megatron {
namespace {

constexpr double kLeft = 64, kRight = 18, kTop = 18, kBottom = 44;
constexpr size_t kMaxPoints = 1600;

// Maps data to pixels.
class Axis {
 public:
  Axis(double low, double high, bool logarithmic, double first_pixel, double last_pixel)
      : logarithmic_(logarithmic), first_(first_pixel), last_(last_pixel) {
    low_ = transform(low);
    high_ = transform(high);
  }
  double pixel(double value) const {
    return first_ + (transform(value) - low_) / (high_ - low_) * (last_ - first_);
  }

 private:
  double transform(double value) const { return logarithmic_ ? std::log10(value) : value; }
  bool logarithmic_;
  double low_ = 0, high_ = 1, first_, last_;
};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // A margin around the data, and a range wide enough for ticks if all values are equal.
  void widen(bool logarithmic, double share) {
    if (!(low <= high)) low = high = 1;
    const bool narrow = high - low <= 1e-9 * std::max(std::abs(low), std::abs(high));
    if (logarithmic) {
      const double factor = narrow ? 2 : std::pow(high / low, share);
      low /= factor;
      high *= factor;
    } else {
      const double room = narrow ? std::max(std::abs(low) * 0.1, 1e-12) : (high - low) * share;
      low -= room;
      high += room;
    }
  }
};

bool drawable(const ChartPoint& point, const Chart& chart) {
  return std::isfinite(point.x) && std::isfinite(point.y) && (!chart.log_x || point.x > 0) &&
         (!chart.log_y || point.y > 0);
}

// Thins a line to about kMaxPoints points: the lowest and highest of each segment, in order. Points
// that cannot be drawn stay, so that the line is still interrupted there.
std::vector<ChartPoint> thinned(const std::vector<ChartPoint>& points, const Chart& chart) {
  if (points.size() <= kMaxPoints) return points;
  std::vector<ChartPoint> out;
  const size_t stretch = ceil_div(2 * points.size(), kMaxPoints);
  for (size_t begin = 0; begin < points.size(); begin += stretch) {
    const size_t end = std::min(begin + stretch, points.size());
    std::optional<size_t> lowest, highest, broken;
    for (size_t i = begin; i < end; ++i) {
      if (!drawable(points[i], chart)) {
        broken = i;
        continue;
      }
      if (!lowest || points[i].y < points[*lowest].y) lowest = i;
      if (!highest || points[i].y > points[*highest].y) highest = i;
    }
    std::vector<size_t> kept;
    for (const auto& index : {lowest, highest, broken}) {
      if (index) kept.push_back(*index);
    }
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const size_t i : kept) out.push_back(points[i]);
  }
  return out;
}

std::string svg_text(double x, double y, std::string_view anchor, std::string_view style,
                     std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n",
                     x, y, anchor, style, escape_html(text));
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view style) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2,
      y2, style);
}

// Short labels without padded exponents: "3e-4", "1.2e6".
std::string tick_text(double value) {
  if (value == 0) return "0";
  const double size = std::abs(value);
  if (size >= 1e-2 && size < 1e6) return fmt::format("{:.6g}", value);
  const int exponent = static_cast<int>(std::floor(std::log10(size) + 1e-9));
  return fmt::format("{:.4g}e{}", value / std::pow(10.0, exponent), exponent);
}

std::string draw_line(const ChartLine& line, const Chart& chart, const Axis& x, const Axis& y) {
  std::string path, dots;
  bool pen_down = false;
  for (const auto& point : thinned(line.points, chart)) {
    if (!drawable(point, chart)) {
      pen_down = false;
      continue;
    }
    const double px = x.pixel(point.x), py = y.pixel(point.y);
    path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", px, py);
    pen_down = true;
    if (line.dots) {
      dots += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" class=\"{}\"><title>{} {:.10g}: {:.5g}"
          "</title></circle>\n",
          px, py, line.style, escape_html(chart.x_label), point.x, point.y);
    }
  }
  if (path.empty()) return "";
  return fmt::format("<path d=\"{}\" class=\"{}\"/>\n{}", path, line.style, dots);
}

// Stacks the labels of marks that are close together, on the side with more space.
std::string draw_marks(const Chart& chart, const Axis& x, double bottom) {
  std::string out;
  double row = 0;
  for (const auto& mark : chart.marks) {
    if (chart.log_x && mark.x <= 0) continue;
    const double px = x.pixel(mark.x);
    const bool left = px > 0.6 * chart.width;
    out += fmt::format("<g><title>{}</title>\n", escape_html(mark.tooltip));
    out += svg_line(px, kTop, px, bottom, "mark");
    out += svg_text(left ? px - 6 : px + 6, kTop + 14 + 15 * row, left ? "end" : "start",
                    "mark-label", mark.label);
    out += "</g>\n";
    row = row >= 4 ? 0 : row + 1;
  }
  return out;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c;
    }
  }
  return out;
}

std::vector<double> linear_ticks(double low, double high, int about) {
  if (!(low < high)) return {};
  const double raw = (high - low) / about;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9);
  for (int i = 0; i < 100 && (first + i) * step <= high + 1e-9 * step; ++i) {
    ticks.push_back((first + i) * step);
  }
  return ticks;
}

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> ticks;
  const bool few = std::log10(high / low) < 3;
  for (double power = std::floor(std::log10(low)); power <= std::log10(high); ++power) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10.0, power);
      if ((factor == 1 || few) && tick >= low && tick <= high) ticks.push_back(tick);
    }
  }
  return ticks;
}

std::string svg_chart(const Chart& chart) {
  Range x_range, y_range;
  for (const auto& line : chart.lines) {
    for (const auto& point : line.points) {
      if (!drawable(point, chart)) continue;
      x_range.include(point.x);
      y_range.include(point.y);
    }
  }
  x_range.widen(chart.log_x, 0.01);
  y_range.widen(chart.log_y, 0.05);
  const double right = chart.width - kRight, bottom = chart.height - kBottom;
  const Axis x(x_range.low, x_range.high, chart.log_x, kLeft, right);
  const Axis y(y_range.low, y_range.high, chart.log_y, bottom, kTop);

  std::string out = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                                chart.width, chart.height, escape_html(chart.title));
  const auto y_ticks = chart.log_y ? log_ticks(y_range.low, y_range.high)
                                   : linear_ticks(y_range.low, y_range.high, chart.height / 45);
  for (const double tick : y_ticks) {
    out += svg_line(kLeft, y.pixel(tick), right, y.pixel(tick), "grid");
    out += svg_text(kLeft - 8, y.pixel(tick) + 4, "end", "tick", tick_text(tick));
  }
  const auto x_ticks = chart.log_x ? log_ticks(x_range.low, x_range.high)
                                   : linear_ticks(x_range.low, x_range.high, chart.width / 90);
  for (const double tick : x_ticks) {
    out += svg_line(x.pixel(tick), bottom, x.pixel(tick), bottom + 5, "frame");
    out += svg_text(x.pixel(tick), bottom + 19, "middle", "tick", tick_text(tick));
  }
  out += svg_line(kLeft, bottom, right, bottom, "frame");
  out += svg_text((kLeft + right) / 2, chart.height - 6, "middle", "label", chart.x_label);
  out += fmt::format(
      "<text transform=\"translate(14 {:.1f}) rotate(-90)\" text-anchor=\"middle\" "
      "class=\"label\">{}</text>\n",
      (kTop + bottom) / 2, escape_html(chart.y_label));
  for (const auto& line : chart.lines) out += draw_line(line, chart, x, y);
  out += draw_marks(chart, x, bottom);
  return out + "</svg>\n";
}

}  // namespace megatron
