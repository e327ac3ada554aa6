#include "megatron/tensor_parallel/vocab_parallel_argmax.h"

#include <ATen/ATen.h>

#include "tests/ops/op_test.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

// 24 columns, 17 of them ids: the last of four ranks holds only padding.
TEST(VocabParallelArgmax, TiesGoToTheLowestIdInEveryLayout) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const auto dtype : test::all_dtypes()) {
    at::Tensor logits = test::random_tensor({7, 24}, at::kDouble, 1).clamp_max(2).to(dtype);
    logits[0][5] = 4;
    logits[0][6] = 4;   // on another rank
    logits[0][16] = 4;  // on a third rank
    logits[1][20] = 9;  // padding
    logits[1][13] = 3;
    logits[2].fill_(-2);
    logits[3].fill_(-infinity);
    logits[4].narrow(0, 0, 12).fill_(NAN);
    logits[4][15] = 3;
    logits[5][0] = 4;
    logits[6][16] = 4;
    const at::Tensor want = at::tensor({5, 13, 0, 0, 15, 0, 16}, at::kLong);
    for (const int tp : {1, 2, 4}) {
      run_thread_world(tp, [&](RankContext& rank) {
        const auto groups = rank.make_groups({.tp = tp});
        const int64_t columns = 24 / tp;
        const at::Tensor local = logits.narrow(1, columns * rank.rank, columns).contiguous();
        test::expect_identical(vocab_parallel_argmax(local, 17, *groups.tp), want);
        test::expect_identical(vocab_parallel_argmax(local.view({7, 1, columns}), 17, *groups.tp),
                               want.view({7, 1}));
      });
    }
  }
}

TEST(VocabParallelArgmax, RefusesBadArguments) {
  const auto groups = ProcessGroupCollection::single_rank();
  test::expect_error(
      [&] {
        vocab_parallel_argmax(at::zeros({2, 8}), 9, *groups.tp);
      },
      "1 to 8 ids");
  test::expect_error(
      [&] {
        vocab_parallel_argmax(at::zeros({2, 8}), 0, *groups.tp);
      },
      "1 to 8 ids");
  test::expect_error([&] { vocab_parallel_argmax(at::Tensor(), 4, *groups.tp); }, "logits");
}

}  // namespace
}  // namespace megatron
