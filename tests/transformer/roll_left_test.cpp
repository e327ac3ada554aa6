#include "megatron/transformer/roll_left.h"

#include <ATen/ATen.h>

#include "tests/ops/op_test.h"

namespace megatron {
namespace {

TEST(RollLeft, LastPlaceOfARowTakesZero) {
  const at::Tensor tokens = at::tensor({5, 6, 7, 8, 9, 1}, at::kLong).view({2, 3});
  test::expect_identical(roll_left(tokens, {}),
                         at::tensor({6, 7, 0, 9, 1, 0}, at::kLong).view({2, 3}));
  test::expect_identical(tokens, at::tensor({5, 6, 7, 8, 9, 1}, at::kLong).view({2, 3}));
}

TEST(RollLeft, PackedSequencesRollEachByItself) {
  const at::Tensor tokens = at::arange(1, 8, at::kLong).view({1, 7});
  const PackedSeqParams packed{.cu_seqlens_q = at::tensor({0, 3, 4, 7}, at::kInt)};
  test::expect_identical(roll_left(tokens, packed),
                         at::tensor({2, 3, 0, 0, 6, 7, 0}, at::kLong).view({1, 7}));
  test::expect_identical(roll_left(at::ones({1, 7}), packed),
                         at::tensor({1, 1, 0, 0, 1, 1, 0}, at::kFloat).view({1, 7}));
}

TEST(RollLeft, PositionsAlongThreeAxes) {
  const at::Tensor positions = at::arange(12, at::kLong).view({3, 1, 4});
  test::expect_identical(
      roll_left(positions, {}),
      at::tensor({1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0}, at::kLong).view({3, 1, 4}));
}

TEST(RollLeft, OffsetsThatDoNotFitAreAnError) {
  const PackedSeqParams packed{.cu_seqlens_q = at::tensor({0, 3}, at::kInt)};
  test::expect_error([&] { roll_left(at::zeros({1, 4}), packed); }, "end at the 4 tokens");
}

}  // namespace
}  // namespace megatron
