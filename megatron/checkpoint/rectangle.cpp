#include "megatron/checkpoint/rectangle.h"

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
          "Expected every part of '{}' to lie within its global shape {}, but got {}", key,
          format_shape(global_shape), format_rectangle(part));
    held += shape_volume(part.shape);
  }
  // Sorted along dimension 0, so that only those can overlap that begin before this one ends.
  std::sort(parts.begin(), parts.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t j = i + 1; j < parts.size(); ++j) {
      if (!global_shape.empty() && parts[j].offset[0] >= parts[i].offset[0] + parts[i].shape[0]) {
        break;
      }
      check(!intersect(parts[i], parts[j]),
            "Expected the parts of '{}' to hold every index of its global shape {} once, but {} "
            "and {} "
            "overlap; a part that several ranks hold is written by one (replica 0)",
            key, format_shape(global_shape), format_rectangle(parts[i]),
            format_rectangle(parts[j]));
    }
  }
  check(
      held == expected,
      "Expected the parts of '{}' to hold all {} elements of its global shape {}, but they hold {}",
      key, expected, format_shape(global_shape), held);
}

std::string format_shape(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace megatron
