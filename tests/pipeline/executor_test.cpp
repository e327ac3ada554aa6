#include "megatron/pipeline/executor.h"

#include <gtest/gtest.h>

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

// Stage r multiplies by its weight w_r = r + 2: the result of micro-batch m is (m + 1) times all
// weights, and the gradient of w_r is the sum over micro-batches of (m + 1) times the other
// weights, times the elements.
TEST(RunSchedule, GivesTheGradientsOfTheWholeChain) {
  for (const int stages : {1, 2, 4}) {
    for (const int64_t microbatches : {1, 3, 6}) {
      run_thread_world(stages, [&](RankContext& rank) {
        const auto groups = rank.make_groups({.pp = stages});
        const at::Tensor weight =
            at::full({}, rank.rank + 2.0, at::kDouble).set_requires_grad(true);
        double product = 1, loss = 0, inputs = 0;
        for (int stage = 0; stage < stages; ++stage) product *= stage + 2.0;
        run_schedule(one_forward_one_backward(rank.rank, stages, microbatches), *groups.pp,
                     {{2, 3}, at::TensorOptions().dtype(at::kDouble)},
                     [&](int64_t microbatch, const at::Tensor& input) {
                       const at::Tensor x = groups.pp->is_first()
                                                ? at::full({2, 3}, microbatch + 1.0, at::kDouble)
                                                : input;
                       const at::Tensor output = x * weight;
                       if (!groups.pp->is_last()) return output;
                       loss += output.sum().item<double>();
                       return output.sum();
                     });
        for (int64_t i = 0; i < microbatches; ++i) inputs += 6.0 * (i + 1);
        EXPECT_DOUBLE_EQ(weight.grad().item<double>(), inputs * product / (rank.rank + 2.0));
        if (groups.pp->is_last()) {
          EXPECT_DOUBLE_EQ(loss, inputs * product);
        }
      });
    }
  }
}

}  // namespace
}  // namespace megatron
