// A line chart as inline SVG. Colours and fonts come from the page's style sheet through the
// classes frame, grid, tick, label and mark, and the class of each line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

struct ChartPoint {
  double x, y;
};

struct ChartLine {
  std::string style;  // CSS class
  std::vector<ChartPoint> points;
  bool dots = false;  // a dot at each point, with its values as a tooltip
};

// A vertical line at x.
struct ChartMark {
  double x;
  std::string label, tooltip;
};

struct Chart {
  std::string title;  // for screen readers
  std::string x_label, y_label;
  std::vector<ChartLine> lines;
  std::vector<ChartMark> marks;
  bool log_x = false, log_y = false;
  int width = 880, height = 340;
};

// Points that are not finite, or not positive on a logarithmic axis, are omitted and interrupt the
// line. Long lines are thinned to local extremes, so that spikes stay visible.
std::string svg_chart(const Chart& chart);

// Escapes &, <, >, " and ' as entities and replaces control characters with spaces.
std::string escape_html(std::string_view text);

// About `about` ticks at 1, 2 or 5 times a power of ten in [low, high].
std::vector<double> linear_ticks(double low, double high, int about);
// Powers of ten in [low, high], with 2 and 5 times them if there are few.
std::vector<double> log_ticks(double low, double high);

}  // namespace megatron
