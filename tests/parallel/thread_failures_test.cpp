// How the in-process backend fails: mismatched calls, ranks that end, and time limits. The error
// that is reported does not depend on timing.
#include <atomic>
#include <gmock/gmock.h>
#include <thread>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/communication_error.h"

#include "tests/parallel/with_backend.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Backend = c10::intrusive_ptr<c10d::Backend>;

TEST(ThreadFailures, DifferentOperationsAreAnError) {
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

TEST(ThreadFailures, DifferentSizesTypesAndReductionsAreErrors) {
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

TEST(ThreadFailures, MessageOfAnotherSizeIsAnError) {
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

TEST(ThreadFailures, SplitsThatDoNotMatchAreAnError) {
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

TEST(ThreadFailures, AFailedRankEndsTheWaitsForIt) {
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
TEST(ThreadFailures, AFailedRankEndsNoOtherWait) {
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
TEST(ThreadFailures, TheLowestFailedRankIsReported) {
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
TEST(ThreadFailures, AMismatchIsReportedBeforeItsConsequences) {
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

TEST(ThreadFailures, AWaitForARankThatReturnedFails) {
  EXPECT_THAT(
      [] {
        with_backend(2, [](Backend backend, int rank) {
          if (rank == 0) backend->barrier()->wait();
        });
      },
      ThrowsMessage<Error>(HasSubstr("rank 1 has ended")));
}

TEST(ThreadFailures, TimeLimit) {
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
