// Collectives with gradients against formulas. Each rank's loss is the sum of output x weights,
// with weights that differ between ranks; the expected input gradient follows from the definitions.
#include "megatron/parallel/collectives.h"

#include <gtest/gtest.h>

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

struct Result {
  at::Tensor output, gradient;
};

// Deterministic values that differ in every element and rank.
at::Tensor values(at::IntArrayRef shape, int seed) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::sin(at::arange(count, at::kDouble) * 0.7 + seed).view(shape);
}

// The sum over ranks of values(shape, seed + rank).
at::Tensor values_sum(at::IntArrayRef shape, int seed, int ranks) {
  at::Tensor sum = at::zeros(shape, at::kDouble);
  for (int rank = 0; rank < ranks; ++rank) sum += values(shape, seed + rank);
  return sum;
}

template <typename Collective>
Result forward_backward(const at::Tensor& input, int weight_seed, Collective&& collective) {
  const at::Tensor leaf = input.clone().set_requires_grad(true);
  const at::Tensor output = collective(leaf);
  (output * values(output.sizes(), weight_seed)).sum().backward();
  return {output.detach(), leaf.grad()};
}

constexpr int kIn = 1, kWeight = 100;

class Collectives : public testing::TestWithParam<int> {
 protected:
  // body(tp, rank) on every rank.
  void run(const std::function<void(const ProcessGroup&, int)>& body) {
    run_thread_world(GetParam(), [&](RankContext& context) {
      const auto groups = context.make_groups({.tp = GetParam()});
      body(*groups.tp, context.rank);
    });
  }
};

void expect_close(const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(actual, expected, 1e-12, 1e-12)) << actual << expected;
}

TEST_P(Collectives, Copy) {
  run([&](const ProcessGroup& tp, int rank) {
    const at::Tensor input = values({2, 3}, kIn);
    const auto result = forward_backward(input, kWeight + rank, [&](const at::Tensor& x) {
      return copy_to_tensor_model_parallel_region(x, tp);
    });
    expect_close(result.output, input);
    expect_close(result.gradient, values_sum({2, 3}, kWeight, tp.size()));
  });
}

TEST_P(Collectives, Reduce) {
  run([&](const ProcessGroup& tp, int rank) {
    const at::Tensor input = values({2, 3}, kIn + rank);
    const auto result = forward_backward(input, kWeight, [&](const at::Tensor& x) {
      return reduce_from_tensor_model_parallel_region(x, tp);
    });
    expect_close(result.output, values_sum({2, 3}, kIn, tp.size()));
    expect_close(result.gradient, values({2, 3}, kWeight));
    expect_close(input, values({2, 3}, kIn + rank));  // the input is unchanged
  });
}

TEST_P(Collectives, ScatterLastDimension) {
  run([&](const ProcessGroup& tp, int rank) {
    const int n = tp.size();
    const at::Tensor input = values({2, 3 * n}, kIn);
    const auto result = forward_backward(input, kWeight + rank, [&](const at::Tensor& x) {
      return scatter_to_tensor_model_parallel_region(x, tp);
    });
    expect_close(result.output, input.narrow(1, 3 * rank, 3));
    std::vector<at::Tensor> weights;
    for (int r = 0; r < n; ++r) weights.push_back(values({2, 3}, kWeight + r));
    expect_close(result.gradient, at::cat(weights, 1));
  });
}

TEST_P(Collectives, GatherLastDimension) {
  run([&](const ProcessGroup& tp, int rank) {
    const int n = tp.size();
    std::vector<at::Tensor> parts;
    for (int r = 0; r < n; ++r) parts.push_back(values({2, 3}, kIn + r));
    const at::Tensor whole = at::cat(parts, 1);
    const auto split = forward_backward(parts[rank], kWeight, [&](const at::Tensor& x) {
      return gather_from_tensor_model_parallel_region(x, tp);
    });
    expect_close(split.output, whole);
    expect_close(split.gradient, values({2, 3 * n}, kWeight).narrow(1, 3 * rank, 3));
    const auto summed = forward_backward(parts[rank], kWeight + rank, [&](const at::Tensor& x) {
      return all_gather_last_dim_from_tensor_parallel_region(x, tp);
    });
    expect_close(summed.output, whole);
    expect_close(summed.gradient, values_sum({2, 3 * n}, kWeight, n).narrow(1, 3 * rank, 3));
  });
}

TEST_P(Collectives, ScatterSequence) {
  run([&](const ProcessGroup& tp, int rank) {
    const int n = tp.size();
    const at::Tensor input = values({2 * n, 3}, kIn);
    const auto result = forward_backward(input, kWeight + rank, [&](const at::Tensor& x) {
      return scatter_to_sequence_parallel_region(x, tp);
    });
    expect_close(result.output, input.narrow(0, 2 * rank, 2));
    std::vector<at::Tensor> weights;
    for (int r = 0; r < n; ++r) weights.push_back(values({2, 3}, kWeight + r));
    expect_close(result.gradient, at::cat(weights, 0));
  });
}

TEST_P(Collectives, GatherSequence) {
  run([&](const ProcessGroup& tp, int rank) {
    const int n = tp.size();
    std::vector<at::Tensor> parts;
    for (int r = 0; r < n; ++r) parts.push_back(values({2, 3}, kIn + r));
    const auto summed = forward_backward(parts[rank], kWeight + rank, [&](const at::Tensor& x) {
      return gather_from_sequence_parallel_region(x, tp);
    });
    expect_close(summed.output, at::cat(parts, 0));
    expect_close(summed.gradient, values_sum({2 * n, 3}, kWeight, n).narrow(0, 2 * rank, 2));
    const auto split = forward_backward(parts[rank], kWeight, [&](const at::Tensor& x) {
      return gather_from_sequence_parallel_region(x, tp, /*tensor_parallel_output_grad=*/false);
    });
    expect_close(split.output, at::cat(parts, 0));
    expect_close(split.gradient, values({2 * n, 3}, kWeight).narrow(0, 2 * rank, 2));
  });
}

TEST_P(Collectives, ReduceScatterSequence) {
  run([&](const ProcessGroup& tp, int rank) {
    const int n = tp.size();
    const at::Tensor input = values({2 * n, 3}, kIn + rank);
    const auto result = forward_backward(input, kWeight + rank, [&](const at::Tensor& x) {
      return reduce_scatter_to_sequence_parallel_region(x, tp);
    });
    expect_close(result.output, values_sum({2 * n, 3}, kIn, n).narrow(0, 2 * rank, 2));
    std::vector<at::Tensor> weights;
    for (int r = 0; r < n; ++r) weights.push_back(values({2, 3}, kWeight + r));
    expect_close(result.gradient, at::cat(weights, 0));
  });
}

TEST_P(Collectives, ExpandedGradient) {
  // The gradient of sum() is expanded: its elements share one memory location.
  run([&](const ProcessGroup& tp, int) {
    const at::Tensor leaf = values({2, 3}, kIn).set_requires_grad(true);
    copy_to_tensor_model_parallel_region(leaf, tp).sum().backward();
    expect_close(leaf.grad(), at::full({2, 3}, double(tp.size()), at::kDouble));
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Collectives, testing::Values(1, 2, 4));

TEST(CollectivesErrors, SizesThatDoNotDivide) {
  run_thread_world(2, [](RankContext& context) {
    const auto groups = context.make_groups({.tp = 2});
    EXPECT_THROW(scatter_to_tensor_model_parallel_region(at::zeros({4, 3}), *groups.tp), Error);
    EXPECT_THROW(scatter_to_sequence_parallel_region(at::zeros({3, 4}), *groups.tp), Error);
    EXPECT_THROW(reduce_scatter_to_sequence_parallel_region(at::zeros({3, 4}), *groups.tp), Error);
  });
}

}  // namespace
}  // namespace megatron
