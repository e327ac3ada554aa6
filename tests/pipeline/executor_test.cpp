#include "megatron/pipeline/executor.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

struct ChainCase {
  int stages, chunks;
  int64_t microbatches;
  TransferOptions options = {};
};

// Virtual stage v multiplies its input by the weight v + 2. The input of micro-batch m has the
// value m + 1 in every element, and m + 1 columns. So the loss of micro-batch m is (m + 1) *
// elements times the product of the weights, and the gradient of a weight is the sum of the losses
// over the weight.
void expect_gradients_of_the_chain(const ChainCase& chain, RankContext& rank) {
  const auto groups = rank.make_groups({.pp = chain.stages});
  const int virtual_stages = chain.stages * chain.chunks;
  double product = 1, loss = 0, expected = 0;
  for (int v = 0; v < virtual_stages; ++v) product *= v + 2.0;
  std::vector<at::Tensor> weights;
  for (int chunk = 0; chunk < chain.chunks; ++chunk) {
    const int v = chunk * chain.stages + rank.rank;
    weights.push_back(at::full({}, v + 2.0, at::kDouble).set_requires_grad(true));
  }
  const auto shape = [](int64_t microbatch) { return std::vector<int64_t>{2, microbatch + 1}; };
  run_schedule(
      make_schedule(
          {.stages = chain.stages, .chunks = chain.chunks, .microbatches = chain.microbatches}),
      *groups.pp,
      {.empty_input = [&](int64_t microbatch,
                          int) { return at::empty(shape(microbatch), at::kDouble); },
       .forward =
           [&](int64_t microbatch, int chunk, const at::Tensor& input) {
             const int v = chunk * chain.stages + rank.rank;
             EXPECT_EQ(input.defined(), v > 0);
             const at::Tensor x =
                 v == 0 ? at::full(shape(microbatch), microbatch + 1.0, at::kDouble) : input;
             const at::Tensor output = x * weights[chunk];
             if (v < virtual_stages - 1) return output;
             loss += output.sum().item<double>();
             return output.sum();
           }},
      chain.options);
  for (int64_t m = 0; m < chain.microbatches; ++m) {
    expected += 2.0 * double((m + 1) * (m + 1)) * product;
  }
  for (int chunk = 0; chunk < chain.chunks; ++chunk) {
    EXPECT_DOUBLE_EQ(weights[chunk].grad().item<double>(),
                     expected / (chunk * chain.stages + rank.rank + 2.0));
  }
  if (groups.pp->is_last()) {
    EXPECT_DOUBLE_EQ(loss, expected);
  }
}

TEST(RunSchedule, GivesTheGradientsOfTheChain) {
  for (const int stages : {1, 2, 3, 4}) {
    for (const int chunks : {1, 2, 3}) {
      if (stages == 1 && chunks > 1) continue;
      for (const int64_t microbatches : {1, 3, 7}) {
        for (const bool overlap : {false, true}) {
          const ChainCase chain{
              stages, chunks, microbatches, {.overlap = overlap, .deallocate = overlap}};
          SCOPED_TRACE(fmt::format("{} stages, {} chunks, {} micro-batches, overlap {}", stages,
                                   chunks, microbatches, overlap));
          run_thread_world(stages,
                           [&](RankContext& rank) { expect_gradients_of_the_chain(chain, rank); });
        }
      }
    }
  }
}

TEST(RunSchedule, RunsForwardOnlySchedules) {
  run_thread_world(2, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.pp = 2});
    double sum = 0;
    const at::NoGradGuard no_grad;
    run_schedule(make_schedule({.stages = 2, .chunks = 2, .microbatches = 5, .forward_only = true}),
                 *groups.pp,
                 {.empty_input = [](int64_t, int) { return at::empty({3}, at::kDouble); },
                  .forward =
                      [&](int64_t microbatch, int chunk, const at::Tensor& input) {
                        const int v = chunk * 2 + rank.rank;
                        const at::Tensor output =
                            v == 0 ? at::full({3}, double(microbatch), at::kDouble) : input + 1;
                        if (v == 3) sum += output.sum().item<double>();
                        return output;
                      }});
    EXPECT_EQ(sum, rank.rank == 1 ? 3 * (0 + 1 + 2 + 3 + 4) + 5 * 9 : 0);
  });
}

// A stage without layers forwards activations and gradients.
TEST(RunSchedule, PassesThroughAnEmptyStage) {
  run_thread_world(3, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.pp = 3});
    const at::Tensor weight = at::full({}, 3.0, at::kDouble).set_requires_grad(true);
    run_schedule(make_schedule({.stages = 3, .microbatches = 4}), *groups.pp,
                 {.empty_input = [](int64_t, int) { return at::empty({2}, at::kDouble); },
                  .forward =
                      [&](int64_t, int, const at::Tensor& input) {
                        if (rank.rank == 0) return at::ones({2}, at::kDouble) * weight;
                        return rank.rank == 1 ? input : (input * input).sum();
                      }});
    if (rank.rank == 0) {
      EXPECT_DOUBLE_EQ(weight.grad().item<double>(), 4 * 2 * 2 * 3.0);
    }
  });
}

// A first stage with frozen weights has no backward pass; the others have.
TEST(RunSchedule, RunsWithAFrozenFirstStage) {
  run_thread_world(2, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.pp = 2});
    const at::Tensor weight = at::full({}, 2.0, at::kDouble).set_requires_grad(rank.rank == 1);
    run_schedule(make_schedule({.stages = 2, .microbatches = 3}), *groups.pp,
                 {.empty_input = [](int64_t, int) { return at::empty({2}, at::kDouble); },
                  .forward =
                      [&](int64_t, int, const at::Tensor& input) {
                        if (rank.rank == 0) return at::ones({2}, at::kDouble) * weight;
                        return (input * weight).sum();
                      }});
    EXPECT_EQ(weight.grad().defined(), rank.rank == 1);
    if (rank.rank == 1) {
      EXPECT_DOUBLE_EQ(weight.grad().item<double>(), 3 * 2 * 2.0);
    }
  });
}

// The maximum number of outputs of the first of four stages that are alive at a time.
int64_t most_outputs_alive(bool deallocate) {
  int64_t most = 0;
  run_thread_world(4, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.pp = 4});
    const at::Tensor weight = at::full({}, 2.0, at::kDouble).set_requires_grad(true);
    std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> outputs;
    run_schedule(make_schedule({.stages = 4, .microbatches = 8}), *groups.pp,
                 {.empty_input = [](int64_t, int) { return at::empty({4}, at::kDouble); },
                  .forward =
                      [&](int64_t, int, const at::Tensor& input) {
                        if (rank.rank == 3) return (input * weight).sum();
                        // Addition saves no tensors for backward.
                        const at::Tensor output =
                            (rank.rank == 0 ? at::ones({4}, at::kDouble) : input) + weight;
                        if (rank.rank > 0) return output;
                        outputs.emplace_back(output.storage().getWeakStorageImpl());
                        most = std::max<int64_t>(
                            most, std::ranges::count_if(
                                      outputs, [](const auto& o) { return !o.expired(); }));
                        return output;
                      }},
                 {.deallocate = deallocate});
    if (rank.rank < 3) {
      EXPECT_DOUBLE_EQ(weight.grad().item<double>(), 8 * 4 * 2.0);
    }
  });
  return most;
}

TEST(RunSchedule, FreesSentOutputs) {
  // The new one and the one in flight; without deallocation, those of all micro-batches in flight.
  EXPECT_EQ(most_outputs_alive(/*deallocate=*/true), 2);
  EXPECT_EQ(most_outputs_alive(/*deallocate=*/false), 4);
}

TEST(RunSchedule, RefusesAScheduleForAnotherNumberOfStages) {
  run_thread_world(2, [&](RankContext& rank) {
    const auto groups = rank.make_groups({.pp = 2});
    EXPECT_THROW(run_schedule(make_schedule({.stages = 3}), *groups.pp, {}), Error);
  });
}

}  // namespace
}  // namespace megatron
