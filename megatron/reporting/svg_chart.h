// A line chart as inline SVG. Its colours and fonts are classes, for the style sheet of the page:
// frame, grid, tick, label, mark, and what the lines name themselves.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

struct ChartPoint {
  double x, y;
};

struct ChartLine {
  std::string style;  // class
  std::vector<ChartPoint> points;
  bool dots = false;  // a dot at each point, with its numbers as a tooltip
};

// A vertical line at x.
struct ChartMark {
  double x;
  std::string label, tooltip;
};

struct Chart {
  std::string title;  // read aloud by screen readers
  std::string x_label, y_label;
  std::vector<ChartLine> lines;
  std::vector<ChartMark> marks;
  bool log_x = false, log_y = false;
  int width = 880, height = 340;
};

// Points that are not finite, or not positive on a logarithmic axis, are left out and break the
// line. Long lines are thinned to their extremes, so that no spike is lost.
std::string svg_chart(const Chart& chart);

// The text with &, <, >, " and ' as entities, and control characters as spaces.
std::string escape_html(std::string_view text);

// Ticks at 1, 2 or 5 times a power of ten, `about` of them, inside [low, high].
std::vector<double> linear_ticks(double low, double high, int about);
// Powers of ten inside [low, high], with 2 and 5 times them where those are few.
std::vector<double> log_ticks(double low, double high);

}  // namespace megatron
