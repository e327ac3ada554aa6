#include "megatron/reporting/parameter_table.h"

#include <algorithm>

#include <fmt/format.h>

#include "megatron/base/integer_math.h"
#include "megatron/reporting/terminal.h"

namespace megatron {
namespace {

constexpr int kIndent = 2;
constexpr int kColumnGap = 4;
constexpr int kNameGap = 2;
constexpr int kMaxColumns = 4;

std::string padded_right(const std::string& text, int width) {
  return text + std::string(static_cast<size_t>(std::max(0, width - display_width(text))), ' ');
}

// Names and values with control characters escaped, so that each stays on one line.
NamedValues printable_pairs(const NamedValues& pairs) {
  NamedValues out;
  for (const auto& [name, value] : pairs) {
    out.emplace_back(printable(name), value.empty() ? "(none)" : printable(value));
  }
  return out;
}

struct ColumnWidths {
  int name = 0, value = 0;
  int total() const { return name + kNameGap + value; }
};

ColumnWidths widths_of(const NamedValues& pairs, size_t begin, size_t end) {
  ColumnWidths widths;
  for (size_t i = begin; i < std::min(end, pairs.size()); ++i) {
    widths.name = std::max(widths.name, display_width(pairs[i].first));
    widths.value = std::max(widths.value, display_width(pairs[i].second));
  }
  return widths;
}

std::vector<std::string> in_columns(const NamedValues& pairs, int width) {
  size_t rows = pairs.size();
  std::vector<ColumnWidths> columns;
  for (size_t count = kMaxColumns; count >= 1; --count) {
    rows = ceil_div(pairs.size(), count);
    columns.clear();
    int total = kIndent - kColumnGap;
    for (size_t begin = 0; begin < pairs.size(); begin += rows) {
      columns.push_back(widths_of(pairs, begin, begin + rows));
      total += columns.back().total() + kColumnGap;
    }
    if (total <= width) break;
  }
  std::vector<std::string> lines;
  for (size_t row = 0; row < rows; ++row) {
    std::string line(kIndent, ' ');
    for (size_t column = 0; column < columns.size(); ++column) {
      const size_t i = column * rows + row;
      if (i >= pairs.size()) break;
      const bool last = i + rows >= pairs.size();  // no trailing spaces
      line += padded_right(pairs[i].first, columns[column].name + kNameGap);
      line += last ? pairs[i].second
                   : padded_right(pairs[i].second, columns[column].value + kColumnGap);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace

std::vector<std::string> parameter_columns(const NamedValues& pairs, int width) {
  NamedValues narrow, wide;
  for (auto& pair : printable_pairs(pairs)) {
    const int cell = display_width(pair.first) + kNameGap + display_width(pair.second);
    (cell <= width / 2 - kColumnGap ? narrow : wide).push_back(std::move(pair));
  }
  auto lines = in_columns(narrow, width);
  const int name_width = widths_of(wide, 0, wide.size()).name;
  for (const auto& [name, value] : wide) {
    lines.push_back(std::string(kIndent, ' ') + padded_right(name, name_width + kNameGap) + value);
  }
  return lines;
}

std::vector<std::string> run_header(const RunDescription& description, int width) {
  std::vector<std::string> lines = {"model    " + description.title,
                                    "layout   " + description.layout};
  if (description.first_iteration < description.train_iters) {
    lines.push_back(
        fmt::format("steps    {} to {}", description.first_iteration + 1, description.train_iters));
  } else {
    lines.push_back(fmt::format("steps    none left: {} of {} are done",
                                description.first_iteration, description.train_iters));
  }
  for (size_t i = 0; i < description.stages.size(); ++i) {
    lines.push_back((i == 0 ? "stages   " : "         ") + description.stages[i]);
  }
  if (description.gemm_peak_tflops > 0) {
    lines.push_back(fmt::format(
        "peak     {:.3g} TFLOP/s in matrix products, measured at the start{}",
        description.gemm_peak_tflops, description.world_size > 1 ? ", all ranks together" : ""));
  }
  if (description.settings.empty()) {
    lines.emplace_back("options  all at their defaults");
  } else {
    lines.emplace_back("options that differ from their defaults:");
    for (auto& line : parameter_columns(description.settings, width)) {
      lines.push_back(std::move(line));
    }
  }
  return lines;
}

std::vector<std::string> boxed(const RunSummary& summary, bool unicode) {
  const auto rows = printable_pairs(summary.rows);
  const auto title = printable(summary.title);
  const auto widths = widths_of(rows, 0, rows.size());
  const int inner = std::max(display_width(title) + 1, rows.empty() ? 0 : widths.total());
  const std::string bar = unicode ? "│" : "|", dash = unicode ? "─" : "-";
  const auto dashes = [&](int count) {
    std::string line;
    for (int i = 0; i < count; ++i) line += dash;
    return line;
  };
  std::vector<std::string> lines;
  lines.push_back((unicode ? "┌" : "+") + dash + " " + title + " " +
                  dashes(inner - display_width(title) - 1) + (unicode ? "┐" : "+"));
  for (const auto& [name, value] : rows) {
    const auto text = padded_right(name, widths.name + kNameGap) + value;
    lines.push_back(bar + " " + padded_right(text, inner) + " " + bar);
  }
  lines.push_back((unicode ? "└" : "+") + dashes(inner + 2) + (unicode ? "┘" : "+"));
  return lines;
}

}  // namespace megatron
