// Rectangles of index space: shards of a global tensor, and the check that they tile it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

// The indices [offset, offset + shape) in every dimension. Without dimensions: the element of a
// scalar.
struct Rectangle {
  std::vector<int64_t> offset;
  std::vector<int64_t> shape;
};

// The number of elements of a shape. Throws Error if a size is negative or the product overflows.
int64_t shape_volume(const std::vector<int64_t>& shape);

// The intersection; empty if there is none. Both have the same number of dimensions.
std::optional<Rectangle> intersect(const Rectangle& a, const Rectangle& b);

// Splits the elements [begin, end) of a flattened row-major tensor of `shape` into rectangles, in
// order: the end of a row, full rows, the start of a row, for every dimension. At most 2 n - 1
// rectangles for n dimensions.
std::vector<Rectangle> rectangles_of_range(const std::vector<int64_t>& shape, int64_t begin,
                                           int64_t end);

// Whether `rectangle` lies within a tensor of `global_shape`.
bool is_inside(const Rectangle& rectangle, const std::vector<int64_t>& global_shape);

// Throws Error with `key` unless the rectangles lie within `global_shape` and cover every index
// exactly once.
void check_tiling(std::string_view key, const std::vector<int64_t>& global_shape,
                  std::vector<Rectangle> rectangles);

// "[2, 3]", for messages.
std::string format_shape(const std::vector<int64_t>& shape);

}  // namespace megatron
