// The in-process backend: every operation against a formula.
#include "megatron/parallel/thread_backend.h"

#include <atomic>
#include <limits>

#include <gtest/gtest.h>

#include "tests/parallel/with_backend.h"

namespace megatron {
namespace {

using Backend = c10::intrusive_ptr<c10d::Backend>;

// Small whole numbers, exact in all dtypes, that differ between neighbours and ranks.
at::Tensor values_of_rank(int rank, int64_t count, at::ScalarType dtype) {
  return (at::arange(count, at::kLong).remainder(7) + rank).to(dtype);
}

class ThreadBackendTypes : public testing::TestWithParam<at::ScalarType> {};

TEST_P(ThreadBackendTypes, AllReduceSumMaxMin) {
  for (const int size : {2, 3, 4}) {
    for (const int64_t count : {int64_t{1}, int64_t{1000}, int64_t{100'000}}) {
      with_backend(size, [&](Backend backend, int rank) {
        const at::Tensor base = values_of_rank(0, count, GetParam());
        const auto reduced = [&](c10d::ReduceOp::RedOpType op) {
          std::vector<at::Tensor> tensors{values_of_rank(rank, count, GetParam())};
          c10d::AllreduceOptions options;
          options.reduceOp = op;
          backend->allreduce(tensors, options)->wait();
          return tensors[0];
        };
        const int ranks_sum = size * (size - 1) / 2;
        EXPECT_TRUE(at::equal(reduced(c10d::ReduceOp::SUM), base * size + ranks_sum));
        EXPECT_TRUE(at::equal(reduced(c10d::ReduceOp::MAX), base + (size - 1)));
        EXPECT_TRUE(at::equal(reduced(c10d::ReduceOp::MIN), base));
      });
    }
  }
}

TEST_P(ThreadBackendTypes, GatherAndScatter) {
  constexpr int kSize = 3;
  constexpr int64_t kCount = 70'000;
  with_backend(kSize, [&](Backend backend, int rank) {
    at::Tensor mine = values_of_rank(rank, kCount, GetParam());
    at::Tensor all = at::zeros({kSize * kCount}, mine.options());
    backend->_allgather_base(all, mine)->wait();
    std::vector<std::vector<at::Tensor>> lists(1);
    for (int i = 0; i < kSize; ++i) lists[0].push_back(at::zeros_like(mine));
    std::vector<at::Tensor> inputs{mine};
    backend->allgather(lists, inputs)->wait();
    for (int i = 0; i < kSize; ++i) {
      EXPECT_TRUE(
          at::equal(all.narrow(0, i * kCount, kCount), values_of_rank(i, kCount, GetParam())));
      EXPECT_TRUE(at::equal(lists[0][i], values_of_rank(i, kCount, GetParam())));
    }

    // Rank r contributes values_of_rank(r + d) for destination d.
    std::vector<at::Tensor> parts;
    for (int d = 0; d < kSize; ++d) parts.push_back(values_of_rank(rank + d, kCount, GetParam()));
    at::Tensor whole = at::cat(parts);
    at::Tensor output = at::zeros_like(mine);
    backend->_reduce_scatter_base(output, whole)->wait();
    const at::Tensor expected = values_of_rank(0, kCount, GetParam()) * kSize + (3 + kSize * rank);
    EXPECT_TRUE(at::equal(output, expected));
    std::vector<std::vector<at::Tensor>> scattered{parts};
    std::vector<at::Tensor> outputs{at::zeros_like(mine)};
    backend->reduce_scatter(outputs, scattered)->wait();
    EXPECT_TRUE(at::equal(outputs[0], expected));
  });
}

TEST_P(ThreadBackendTypes, BroadcastFromEveryRoot) {
  constexpr int kSize = 4;
  with_backend(kSize, [&](Backend backend, int rank) {
    for (int root = 0; root < kSize; ++root) {
      std::vector<at::Tensor> tensors{values_of_rank(rank, 33, GetParam())};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      backend->broadcast(tensors, options)->wait();
      EXPECT_TRUE(at::equal(tensors[0], values_of_rank(root, 33, GetParam())));
    }
  });
}

TEST_P(ThreadBackendTypes, AllToAll) {
  constexpr int kSize = 3;
  with_backend(kSize, [&](Backend backend, int rank) {
    // Even: row d of rank r is 10 r + d.
    at::Tensor input = (at::arange(kSize, at::kLong) + 10 * rank).to(GetParam()).view({kSize, 1});
    at::Tensor output = at::zeros_like(input);
    std::vector<int64_t> none;
    backend->alltoall_base(output, input, none, none)->wait();
    EXPECT_TRUE(at::equal(
        output, (10 * at::arange(kSize, at::kLong) + rank).to(GetParam()).view({kSize, 1})));

    // Uneven: rank r sends r + d rows of value 10 r + d to rank d; rank 0 sends itself nothing.
    std::vector<int64_t> to, from;
    std::vector<at::Tensor> rows, expected;
    const auto options = at::TensorOptions().dtype(GetParam());
    for (int other = 0; other < kSize; ++other) {
      to.push_back(rank + other);
      from.push_back(other + rank);
      rows.push_back(at::full({rank + other, 2}, 10 * rank + other, options));
      expected.push_back(at::full({other + rank, 2}, 10 * other + rank, options));
    }
    at::Tensor sent = at::cat(rows);
    at::Tensor received = at::zeros_like(at::cat(expected));
    backend->alltoall_base(received, sent, from, to)->wait();
    EXPECT_TRUE(at::equal(received, at::cat(expected)));
  });
}

INSTANTIATE_TEST_SUITE_P(Types, ThreadBackendTypes,
                         testing::Values(at::kFloat, at::kDouble, at::kBFloat16, at::kLong,
                                         at::kHalf, at::kInt),
                         [](const auto& info) { return std::string(at::toString(info.param)); });

TEST(ThreadBackend, SumsInRankOrderWithWideAccumulation) {
  // bf16 has 8 bits: adding 1 to 256 three times in bf16 stays 256, in fp32 it gives 259 (rounded
  // to 260).
  with_backend(4, [](Backend backend, int rank) {
    std::vector<at::Tensor> narrow{at::full({5}, rank == 0 ? 256.0 : 1.0, at::kBFloat16)};
    backend->allreduce(narrow)->wait();
    EXPECT_EQ(narrow[0][4].item<float>(), 260.0f);
    // (((1e8 + 1) - 1e8) + 1) in fp32 from the left is 1; any other order gives 0 or 2.
    const std::array<float, 4> values{1e8f, 1.0f, -1e8f, 1.0f};
    std::vector<at::Tensor> wide{at::full({70'000}, values[rank], at::kFloat)};
    backend->allreduce(wide)->wait();
    EXPECT_TRUE(at::equal(wide[0], at::ones({70'000})));
  });
}

TEST(ThreadBackend, IsDeterministic) {
  std::vector<at::Tensor> results;
  for (int repeat = 0; repeat < 4; ++repeat) {
    at::Tensor result;
    with_backend(4, [&](Backend backend, int rank) {
      std::vector<at::Tensor> tensors{at::sin(at::arange(200'000, at::kFloat) * (rank + 1))};
      backend->allreduce(tensors)->wait();
      if (rank == 0) result = tensors[0].clone();
    });
    results.push_back(result);
  }
  for (const auto& result : results) EXPECT_TRUE(at::equal(result, results[0]));
}

TEST(ThreadBackend, NanWinsMaxAndMin) {
  with_backend(3, [](Backend backend, int rank) {
    for (int holder = 0; holder < 3; ++holder) {
      for (const auto op : {c10d::ReduceOp::MAX, c10d::ReduceOp::MIN}) {
        const float value = rank == holder ? std::numeric_limits<float>::quiet_NaN() : 1.0f + rank;
        std::vector<at::Tensor> tensors{at::full({2}, value, at::kFloat)};
        c10d::AllreduceOptions options;
        options.reduceOp = op;
        backend->allreduce(tensors, options)->wait();
        EXPECT_TRUE(std::isnan(tensors[0][1].item<float>()));
      }
    }
  });
}

TEST(ThreadBackend, WorkIsAsynchronous) {
  // Rank 0 completes the collective before it sends the message that rank 1 needs before its wait.
  with_backend(2, [](Backend backend, int rank) {
    std::vector<at::Tensor> tensors{at::full({3}, rank + 1.0)};
    std::vector<at::Tensor> message{at::zeros({1})};
    auto work = backend->allreduce(tensors);
    if (rank == 0) {
      work->wait();
      backend->send(message, 1, 0)->wait();
    } else {
      backend->recv(message, 0, 0)->wait();
      EXPECT_TRUE(work->isCompleted());
      work->wait();
    }
    EXPECT_TRUE(at::equal(tensors[0], at::full({3}, 3.0)));
  });
}

TEST(ThreadBackend, MessagesKeepOrderAndTags) {
  with_backend(2, [](Backend backend, int rank) {
    const auto message = [](double value) { return std::vector<at::Tensor>{at::full({2}, value)}; };
    if (rank == 0) {
      auto first = message(1), second = message(2), other = message(3);
      backend->send(first, 1, 7)->wait();
      first[0].zero_();  // the message was copied
      backend->send(second, 1, 7)->wait();
      backend->send(other, 1, 8)->wait();
    } else {
      auto first = message(0), second = message(0), other = message(0);
      backend->recv(other, 0, 8)->wait();
      auto first_work = backend->recv(first, 0, 7);
      auto second_work = backend->recv(second, 0, 7);
      second_work->wait();  // in another order than the receives were posted
      first_work->wait();
      EXPECT_EQ(first[0][0].item<double>(), 1);
      EXPECT_EQ(second[0][0].item<double>(), 2);
      EXPECT_EQ(other[0][0].item<double>(), 3);
    }
  });
}

TEST(ThreadBackend, BarrierHoldsEveryone) {
  std::atomic<int> before{0};
  with_backend(4, [&](Backend backend, int) {
    for (int round = 1; round <= 20; ++round) {
      ++before;
      backend->barrier()->wait();
      EXPECT_GE(before.load(), 4 * round);
      backend->barrier()->wait();
    }
  });
}

}  // namespace
}  // namespace megatron
