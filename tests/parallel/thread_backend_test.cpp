// The in-process backend: every operation against a formula, and every way to fail.
#include "megatron/parallel/thread_backend.h"

#include <atomic>
#include <gmock/gmock.h>
#include <limits>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/communication_error.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Backend = c10::intrusive_ptr<c10d::Backend>;

// Calls body(backend, rank) on `size` rank threads in one group.
void with_backend(int size, const std::function<void(Backend, int)>& body,
                  std::chrono::milliseconds timeout = std::chrono::seconds(120)) {
  std::vector<int> everyone(size);
  std::iota(everyone.begin(), everyone.end(), 0);
  run_thread_world(
      size,
      [&](RankContext& context) {
        body(context.transport->make_backend("test", everyone), context.rank);
      },
      timeout);
}

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

TEST(ThreadBackend, DifferentOperationsAreAnError) {
  EXPECT_THAT(
      [] {
        with_backend(2, [](Backend backend, int rank) {
          std::vector<at::Tensor> tensors{at::zeros({4})};
          if (rank == 0) backend->allreduce(tensors)->wait();
          if (rank == 1) backend->barrier()->wait();
        });
      },
      ThrowsMessage<Error>(
          HasSubstr("rank 0 called all_reduce (sum) of 4 Float, but rank 1 called barrier")));
}

TEST(ThreadBackend, DifferentSizesTypesAndReductionsAreErrors) {
  const auto reduce = [](std::array<at::Tensor, 2> tensors,
                         std::array<c10d::ReduceOp::RedOpType, 2> ops) {
    with_backend(2, [&](Backend backend, int rank) {
      std::vector<at::Tensor> list{tensors[rank]};
      c10d::AllreduceOptions options;
      options.reduceOp = ops[rank];
      backend->allreduce(list, options)->wait();
    });
  };
  using c10d::ReduceOp;
  EXPECT_THAT(
      [&] {
        reduce({at::zeros({4}), at::zeros({5})}, {ReduceOp::SUM, ReduceOp::SUM});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("of 4 Float"), HasSubstr("of 5 Float"))));
  EXPECT_THAT(
      [&] {
        reduce({at::zeros({4}), at::zeros({4}, at::kLong)}, {ReduceOp::SUM, ReduceOp::SUM});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("of 4 Float"), HasSubstr("of 4 Long"))));
  EXPECT_THAT(
      [&] {
        reduce({at::zeros({4}), at::zeros({4})}, {ReduceOp::MAX, ReduceOp::MIN});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("(max)"), HasSubstr("(min)"))));
  EXPECT_THAT(
      [&] {
        reduce({at::zeros({4}), at::zeros({4})}, {ReduceOp::PRODUCT, ReduceOp::PRODUCT});
      },
      ThrowsMessage<Error>(HasSubstr("sum, max or min")));
}

TEST(ThreadBackend, MessageOfAnotherSizeIsAnError) {
  EXPECT_THAT(
      [] {
        with_backend(2, [](Backend backend, int rank) {
          std::vector<at::Tensor> tensors{at::zeros({rank + 4})};
          if (rank == 0) backend->send(tensors, 1, 0)->wait();
          if (rank == 1) backend->recv(tensors, 0, 0)->wait();
        });
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("4 Float"), HasSubstr("expects 5 Float"))));
}

TEST(ThreadBackend, SplitsThatDoNotMatchAreAnError) {
  EXPECT_THAT(
      [] {
        with_backend(2, [](Backend backend, int rank) {
          at::Tensor input = at::zeros({3}), output = at::zeros({3});
          std::vector<int64_t> to{1, 2}, from{1, 2};
          backend->alltoall_base(output, input, from, to)->wait();
          EXPECT_EQ(rank, -1) << "unreachable";
        });
      },
      ThrowsMessage<Error>("rank 0 sends 2 elements in all_to_all, but rank 1 expects 1"));
}

TEST(ThreadBackend, AFailedRankEndsTheWaitsForIt) {
  std::atomic<int> woken{0};
  EXPECT_THAT(
      [&] {
        with_backend(4, [&](Backend backend, int rank) {
          if (rank == 2) fail("rank 2 has had enough");
          std::vector<at::Tensor> tensors{at::zeros({4})};
          try {
            if (rank == 0) backend->recv(tensors, 2, 0)->wait();
            if (rank != 0) backend->allreduce(tensors)->wait();
          } catch (const Error&) {
            ++woken;
            throw;
          }
        });
      },
      ThrowsMessage<Error>("rank 2 has had enough"));
  EXPECT_EQ(woken, 3);
}

// Rank 1 goes on although rank 2 has failed: it gets what rank 0 had sent, and fails by itself.
TEST(ThreadBackend, AFailedRankEndsNoOtherWait) {
  EXPECT_THAT(
      [] {
        with_backend(3, [](Backend backend, int rank) {
          std::vector<at::Tensor> message{at::full({1}, 7.0)};
          if (rank == 2) fail("Expected rank 2 to go on, but it failed");
          const auto expect_end_of_rank_2 = [&] {
            std::vector<at::Tensor> never{at::zeros({1})};
            EXPECT_THROW(backend->recv(never, 2, 0)->wait(), CommunicationError);
          };
          expect_end_of_rank_2();
          if (rank == 0) {
            backend->send(message, 1, 0)->wait();
            backend->send(message, 2, 0)->wait();  // nobody receives it
            return;
          }
          message[0].zero_();
          backend->recv(message, 0, 0)->wait();
          fail("Expected rank 1 to fail by itself with {}", message[0].item<double>());
        });
      },
      ThrowsMessage<Error>("Expected rank 1 to fail by itself with 7"));
}

// Whichever rank fails first, the error of the lowest one is thrown.
TEST(ThreadBackend, TheLowestFailedRankIsReported) {
  for (const int first : {0, 1, 2}) {
    EXPECT_THAT(
        [first] {
          with_backend(3, [first](Backend backend, int rank) {
            std::vector<at::Tensor> never{at::zeros({1})};
            if (rank != first) {
              EXPECT_THROW(backend->recv(never, first, 0)->wait(), CommunicationError);
            }
            fail("Expected rank {} to go on, but it failed", rank);
          });
        },
        ThrowsMessage<Error>("Expected rank 0 to go on, but it failed"));
  }
}

// Rank 0 fails only because rank 1 has ended.
TEST(ThreadBackend, AMismatchIsReportedBeforeItsConsequences) {
  EXPECT_THAT(
      [] {
        run_thread_world(3, [](RankContext& context) {
          if (context.rank == 0) {
            std::vector<at::Tensor> message{at::zeros({1})};
            context.transport->make_backend("first two", {0, 1})->recv(message, 1, 0)->wait();
            return;
          }
          if (context.rank == 1) context.transport->make_backend("first two", {0, 1});
          const Backend pair = context.transport->make_backend("last two", {1, 2});
          std::vector<at::Tensor> tensors{at::zeros({context.rank})};
          pair->allreduce(tensors)->wait();
        });
      },
      ThrowsMessage<CommunicationError>(
          HasSubstr("rank 1 called all_reduce (sum) of 1 Float, but rank 2 called")));
}

TEST(TransportFailureKind, ALostPeerIsRecognisedByText) {
  const auto kind = [](const char* text) {
    return transport_failure_kind(std::runtime_error(text));
  };
  EXPECT_EQ(kind("[pair.cc:534] Connection closed by peer [127.0.0.1]:4711"),
            FailureKind::peer_ended);
  EXPECT_EQ(kind("Read error [127.0.0.1]:4711: Connection reset by peer"), FailureKind::peer_ended);
  EXPECT_EQ(kind("writev: Broken pipe"), FailureKind::peer_ended);
  EXPECT_EQ(kind("Timed out waiting 1500ms for recv operation to complete"),
            FailureKind::communication);
}

TEST(ThreadBackend, AWaitForARankThatReturnedFails) {
  EXPECT_THAT(
      [] {
        with_backend(2, [](Backend backend, int rank) {
          if (rank == 0) backend->barrier()->wait();
        });
      },
      ThrowsMessage<Error>(HasSubstr("rank 1 has ended")));
}

TEST(ThreadBackend, TimeLimit) {
  std::atomic<bool> gave_up{false};
  EXPECT_THAT(
      [&] {
        with_backend(
            2,
            [&](Backend backend, int rank) {
              if (rank == 1) {
                while (!gave_up) std::this_thread::sleep_for(std::chrono::milliseconds(1));
                return;
              }
              try {
                backend->barrier()->wait();
              } catch (...) {
                gave_up = true;
                throw;
              }
            },
            std::chrono::milliseconds(50));
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("time is up"), HasSubstr("rank [1] did not come"))));
}

}  // namespace
}  // namespace megatron
