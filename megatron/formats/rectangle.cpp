#include "megatron/formats/rectangle.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

std::string format_rectangle(const Rectangle& rectangle) {
  return fmt::format("offset {} shape {}", format_shape(rectangle.offset),
                     format_shape(rectangle.shape));
}

}  // namespace

int64_t shape_volume(const std::vector<int64_t>& shape) {
  int64_t volume = 1;
  for (const int64_t size : shape) {
    check(size >= 0 && !__builtin_mul_overflow(volume, size, &volume),
          "Expected a shape of sizes of at least 0 whose product fits in 63 bits, but got {}",
          format_shape(shape));
  }
  return volume;
}

std::optional<Rectangle> intersect(const Rectangle& a, const Rectangle& b) {
  Rectangle common;
  for (size_t d = 0; d < a.shape.size(); ++d) {
    const int64_t begin = std::max(a.offset[d], b.offset[d]);
    const int64_t end = std::min(a.offset[d] + a.shape[d], b.offset[d] + b.shape[d]);
    if (begin >= end) return std::nullopt;
    common.offset.push_back(begin);
    common.shape.push_back(end - begin);
  }
  return common;
}

std::vector<Rectangle> rectangles_of_range(const std::vector<int64_t>& shape, int64_t begin,
                                           int64_t end) {
  if (begin >= end) return {};
  if (shape.empty()) return {Rectangle{}};
  const std::vector<int64_t> row_shape(shape.begin() + 1, shape.end());
  const int64_t row = shape_volume(row_shape);
  std::vector<Rectangle> rectangles;
  const auto append_within_row = [&](int64_t index, int64_t from, int64_t to) {
    for (Rectangle& inner : rectangles_of_range(row_shape, from, to)) {
      inner.offset.insert(inner.offset.begin(), index);
      inner.shape.insert(inner.shape.begin(), 1);
      rectangles.push_back(std::move(inner));
    }
  };
  int64_t first = begin / row;
  if (begin % row != 0) {
    append_within_row(first, begin % row, std::min(row, end - first * row));
    ++first;
  }
  const int64_t last = end / row;  // the last row, if it is incomplete
  if (first < last) {
    Rectangle rows{std::vector<int64_t>(shape.size(), 0), shape};
    rows.offset[0] = first;
    rows.shape[0] = last - first;
    rectangles.push_back(std::move(rows));
  }
  if (first <= last && end % row != 0) append_within_row(last, 0, end % row);
  return rectangles;
}

bool is_inside(const Rectangle& part, const std::vector<int64_t>& global_shape) {
  if (part.offset.size() != global_shape.size() || part.shape.size() != global_shape.size()) {
    return false;
  }
  for (size_t d = 0; d < global_shape.size(); ++d) {
    if (part.offset[d] < 0 || part.shape[d] < 0 || part.offset[d] > global_shape[d] ||
        part.shape[d] > global_shape[d] - part.offset[d]) {
      return false;
    }
  }
  return true;
}

void check_tiling(std::string_view key, const std::vector<int64_t>& global_shape,
                  std::vector<Rectangle> parts) {
  const int64_t expected = shape_volume(global_shape);
  int64_t held = 0;
  for (const auto& part : parts) {
    check(is_inside(part, global_shape),
          "Expected every shard of '{}' to lie within its global shape {}, but got {}", key,
          format_shape(global_shape), format_rectangle(part));
    held += shape_volume(part.shape);
  }
  // Sorted along dimension 0: only rectangles that start before this one ends can overlap it.
  std::sort(parts.begin(), parts.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t j = i + 1; j < parts.size(); ++j) {
      if (!global_shape.empty() && parts[j].offset[0] >= parts[i].offset[0] + parts[i].shape[0]) {
        break;
      }
      check(!intersect(parts[i], parts[j]),
            "Expected the shards of '{}' to cover every index of its global shape {} once, but {} "
            "and {} overlap; only replica 0 of a shard is written",
            key, format_shape(global_shape), format_rectangle(parts[i]),
            format_rectangle(parts[j]));
    }
  }
  check(held == expected,
        "Expected the shards of '{}' to cover all {} elements of its global shape {}, but got {}",
        key, expected, format_shape(global_shape), held);
}

std::string format_shape(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace megatron
