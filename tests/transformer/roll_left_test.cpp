#include "megatron/transformer/roll_left.h"

#include <ATen/ATen.h>

#include "megatron/context_parallel/zigzag.h"

#include "tests/ops/op_test.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

TEST(RollLeft, LastPositionBecomesZero) {
  const at::Tensor tokens = at::tensor({5, 6, 7, 8, 9, 1}, at::kLong).view({2, 3});
  test::expect_identical(roll_left(tokens, {}),
                         at::tensor({6, 7, 0, 9, 1, 0}, at::kLong).view({2, 3}));
  test::expect_identical(tokens, at::tensor({5, 6, 7, 8, 9, 1}, at::kLong).view({2, 3}));
}

TEST(RollLeft, PackedSequencesRollSeparately) {
  const at::Tensor tokens = at::arange(1, 8, at::kLong).view({1, 7});
  const PackedSeqParams packed{.cu_seqlens_q = at::tensor({0, 3, 4, 7}, at::kInt)};
  test::expect_identical(roll_left(tokens, packed),
                         at::tensor({2, 3, 0, 0, 6, 7, 0}, at::kLong).view({1, 7}));
  test::expect_identical(roll_left(at::ones({1, 7}), packed),
                         at::tensor({1, 1, 0, 0, 1, 1, 0}, at::kFloat).view({1, 7}));
}

TEST(RollLeft, ThreeAxes) {
  const at::Tensor positions = at::arange(12, at::kLong).view({3, 1, 4});
  test::expect_identical(
      roll_left(positions, {}),
      at::tensor({1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0}, at::kLong).view({3, 1, 4}));
}

// Each rank's shard equals that of the rolled row.
TEST(RollLeft, ContextParallelShards) {
  const PackedSeqParams packed{.cu_seqlens_q = at::tensor({0, 8, 24}, at::kInt)};
  for (const std::optional<PackedSeqParams>& sequences :
       {std::optional<PackedSeqParams>(), std::optional<PackedSeqParams>(packed)}) {
    const at::Tensor tokens = at::arange(1, 145, at::kLong).view({3, 2, 24});
    for (const int ranks : {2, 4}) {
      run_thread_world(ranks, [&](RankContext& rank) {
        const auto cp = rank.make_groups({.cp = ranks}).cp;
        const at::Tensor offsets = sequences ? sequences->checked_offsets(24) : at::Tensor();
        const at::Tensor positions = zigzag_positions({24, ranks, offsets}, cp->rank());
        at::Tensor shard = tokens.index_select(-1, positions), row = tokens;
        for (int depth = 0; depth < 4; ++depth) {
          shard = roll_left(shard, sequences, cp.get());
          row = roll_left(row, sequences);
          test::expect_identical(shard, row.index_select(-1, positions));
        }
      });
    }
  }
}

TEST(RollLeft, InvalidBoundariesAreAnError) {
  const PackedSeqParams packed{.cu_seqlens_q = at::tensor({0, 3}, at::kInt)};
  test::expect_error([&] { roll_left(at::zeros({1, 4}), packed); }, "end at the 4 tokens");
}

}  // namespace
}  // namespace megatron
