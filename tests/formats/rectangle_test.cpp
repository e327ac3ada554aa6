#include "megatron/formats/rectangle.h"

#include <gmock/gmock.h>

#include <ATen/ATen.h>

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

TEST(RectangleTest, Intersection) {
  const auto common = intersect({{0, 2}, {4, 4}}, {{3, 0}, {5, 3}});
  ASSERT_TRUE(common);
  EXPECT_EQ(common->offset, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(common->shape, (std::vector<int64_t>{1, 1}));
  EXPECT_FALSE(intersect({{0}, {4}}, {{4}, {4}}));
  EXPECT_FALSE(intersect({{2}, {0}}, {{0}, {4}}));
  EXPECT_TRUE(intersect({}, {}));  // scalars
}

TEST(RectangleTest, AcceptsATiling) {
  check_tiling("w", {4, 6}, {{{0, 0}, {2, 6}}, {{2, 0}, {2, 3}}, {{2, 3}, {2, 3}}});
  check_tiling("w", {}, {{}});
  check_tiling("w", {0, 3}, {{{0, 0}, {0, 3}}});
  check_tiling("w", {4}, {{{0}, {4}}, {{4}, {0}}});
}

TEST(RectangleTest, RefusesGapsOverlapsAndOutsideRectangles) {
  EXPECT_THAT(error_of([] {
                check_tiling("w", {4}, {{{0}, {3}}});
              }),
              HasSubstr("'w' to cover all 4 elements of its global shape [4], but got 3"));
  EXPECT_THAT(error_of([] {
                check_tiling("w", {4, 2}, {{{0, 0}, {3, 2}}, {{2, 0}, {1, 2}}});
              }),
              HasSubstr("offset [0, 0] shape [3, 2] and offset [2, 0] shape [1, 2] overlap"));
  EXPECT_THAT(error_of([] { check_tiling("w", {}, {{}, {}}); }), HasSubstr("overlap"));
  EXPECT_THAT(error_of([] { check_tiling("w", {4}, {{{2}, {3}}}); }), HasSubstr("lie within"));
  EXPECT_THAT(error_of([] {
                check_tiling("w", {4}, {{{0, 0}, {4, 1}}});
              }),
              HasSubstr("lie within"));
}

// Every range of some shapes: the rectangles cover its elements in order.
TEST(RectangleTest, SplitsARangeOfAFlattenedTensor) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{}, {5}, {3, 4}, {1, 6}, {2, 3, 4}, {2, 1, 3, 2}}) {
    const int64_t volume = shape_volume(shape);
    const at::Tensor tensor = at::arange(volume, at::kLong).view(shape);
    for (int64_t begin = 0; begin <= volume; ++begin) {
      for (int64_t end = begin; end <= volume; ++end) {
        std::vector<at::Tensor> elements;
        const std::vector<Rectangle> rectangles = rectangles_of_range(shape, begin, end);
        for (const Rectangle& rectangle : rectangles) {
          at::Tensor part = tensor;
          for (size_t d = 0; d < shape.size(); ++d)
            part = part.narrow(int64_t(d), rectangle.offset[d], rectangle.shape[d]);
          elements.push_back(part.reshape({-1}));
        }
        EXPECT_LE(rectangles.size(), std::max<size_t>(2 * shape.size(), 2) - 1);
        if (begin == end) {
          EXPECT_TRUE(rectangles.empty());
        } else {
          EXPECT_TRUE(at::equal(at::cat(elements), at::arange(begin, end, at::kLong)));
        }
      }
    }
  }
}

TEST(RectangleTest, VolumeRefusesOverflow) {
  EXPECT_EQ(shape_volume({2, 0, 3}), 0);
  EXPECT_EQ(shape_volume({}), 1);
  error_of([] { shape_volume({int64_t{1} << 40, int64_t{1} << 40}); });
  error_of([] { shape_volume({-1}); });
}

}  // namespace
}  // namespace megatron
