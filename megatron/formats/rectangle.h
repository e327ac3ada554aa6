// Rectangles of index space: parts of a global tensor, and whether they tile it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

// The indices [offset, offset + shape) in every dimension; no dimensions means the one element of a
// scalar.
struct Rectangle {
  std::vector<int64_t> offset;
  std::vector<int64_t> shape;
};

// The number of indices in a shape. Throws Error where a size is negative or the product does not
// fit.
int64_t shape_volume(const std::vector<int64_t>& shape);

// The indices in both, empty where there are none. Both have the same number of dimensions.
std::optional<Rectangle> intersect(const Rectangle& a, const Rectangle& b);

// The elements [begin, end) of a flattened tensor of `shape` (row-major) as rectangles, in their
// order: what is left of a row, whole rows, the beginning of a row, in every dimension. At most
// 2 n - 1 of them in n dimensions.
std::vector<Rectangle> rectangles_of_range(const std::vector<int64_t>& shape, int64_t begin,
                                           int64_t end);

// Whether `part` lies within a tensor of `global_shape`.
bool is_inside(const Rectangle& part, const std::vector<int64_t>& global_shape);

// Throws Error naming `key` unless the parts lie within `global_shape` and hold every index exactly
// once.
void check_tiling(std::string_view key, const std::vector<int64_t>& global_shape,
                  std::vector<Rectangle> parts);

// "[2, 3]", for messages.
std::string format_shape(const std::vector<int64_t>& shape);

}  // namespace megatron
