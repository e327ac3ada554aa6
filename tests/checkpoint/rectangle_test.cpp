#include "megatron/checkpoint/rectangle.h"

#include <gmock/gmock.h>

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

TEST(RectangleTest, IntersectionIsTheCommonIndices) {
  const auto common = intersect({{0, 2}, {4, 4}}, {{3, 0}, {5, 3}});
  ASSERT_TRUE(common);
  EXPECT_EQ(common->offset, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(common->shape, (std::vector<int64_t>{1, 1}));
  EXPECT_FALSE(intersect({{0}, {4}}, {{4}, {4}}));
  EXPECT_FALSE(intersect({{2}, {0}}, {{0}, {4}}));
  EXPECT_TRUE(intersect({}, {}));  // scalars
}

TEST(RectangleTest, TilingAcceptsEveryIndexOnce) {
  check_tiling("w", {4, 6}, {{{0, 0}, {2, 6}}, {{2, 0}, {2, 3}}, {{2, 3}, {2, 3}}});
  check_tiling("w", {}, {{}});
  check_tiling("w", {0, 3}, {{{0, 0}, {0, 3}}});
  check_tiling("w", {4}, {{{0}, {4}}, {{4}, {0}}});
}

TEST(RectangleTest, TilingRefusesGapsOverlapsAndPartsOutside) {
  EXPECT_THAT(error_of([] {
                check_tiling("w", {4}, {{{0}, {3}}});
              }),
              HasSubstr("'w' to hold all 4 elements of its global shape [4], but they hold 3"));
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

TEST(RectangleTest, VolumeRefusesWhatDoesNotFit) {
  EXPECT_EQ(shape_volume({2, 0, 3}), 0);
  EXPECT_EQ(shape_volume({}), 1);
  error_of([] { shape_volume({int64_t{1} << 40, int64_t{1} << 40}); });
  error_of([] { shape_volume({-1}); });
}

}  // namespace
}  // namespace megatron
