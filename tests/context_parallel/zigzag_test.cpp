#include "megatron/context_parallel/zigzag.h"

#include <set>

#include "tests/ops/op_test.h"

namespace megatron {
namespace {

at::Tensor row(std::vector<int64_t> numbers) {
  return at::tensor(numbers, at::kLong);
}

TEST(ZigzagPositions, GiveARankAnEarlyAndALateChunk) {
  const SequenceSplit split{.length = 16, .size = 4};
  test::expect_identical(zigzag_positions(split, 0), row({0, 1, 14, 15}));
  test::expect_identical(zigzag_positions(split, 1), row({2, 3, 12, 13}));
  test::expect_identical(zigzag_positions(split, 3), row({6, 7, 8, 9}));
}

TEST(ZigzagPositions, SplitEachPackedSequence) {
  const SequenceSplit split{.length = 12, .size = 2, .cu_seqlens = row({0, 4, 12})};
  test::expect_identical(zigzag_positions(split, 0), row({0, 3, 4, 5, 10, 11}));
  test::expect_identical(zigzag_positions(split, 1), row({1, 2, 6, 7, 8, 9}));
}

// With a causal mask, the queries of all ranks see the same number of keys.
TEST(ZigzagPositions, BalanceTheWork) {
  const SequenceSplit split{.length = 48, .size = 4};
  std::set<int64_t> work;
  for (int rank = 0; rank < split.size; ++rank)
    work.insert((zigzag_positions(split, rank) + 1).sum().item<int64_t>());
  EXPECT_EQ(work.size(), 1u);
}

TEST(ZigzagPositions, InversePermutationRestoresTheOrder) {
  for (const SequenceSplit& split :
       {SequenceSplit{.length = 48, .size = 4}, SequenceSplit{.length = 24, .size = 3},
        SequenceSplit{.length = 24, .size = 2, .cu_seqlens = row({0, 4, 16, 24})}}) {
    const at::Tensor gathered = gathered_positions(split);
    test::expect_identical(gathered.index_select(0, inverse_permutation(gathered)),
                           at::arange(split.length, at::kLong));
  }
}

TEST(ZigzagPositions, RefuseIndivisibleLengths) {
  test::expect_error([] { zigzag_positions({.length = 10, .size = 2}, 0); },
                     "divisible by 4 (2 x context parallel 2), but got 10; 12 works");
  test::expect_error(
      [] {
        zigzag_positions({.length = 12, .size = 2, .cu_seqlens = row({0, 6, 12})}, 0);
      },
      "cu_seqlens_q_padded");
}

}  // namespace
}  // namespace megatron
