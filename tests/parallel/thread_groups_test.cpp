// ProcessGroup and ProcessGroupCollection with ranks as threads: membership, shapes, and errors
// that name rank, group and operation.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/process_group_collection.h"

#include "tests/parallel/commanded_backend.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(ProcessGroupCollection, SingleRankNeedsNoBackend) {
  const auto groups = ProcessGroupCollection::single_rank();
  for (const auto& group :
       {groups.world, groups.tp, groups.pp, groups.cp, groups.dp, groups.dp_cp, groups.tp_cp,
        groups.tp_dp_cp, groups.mp, groups.embd, groups.pos_embd, groups.ep, groups.expt_tp,
        groups.tp_ep, groups.tp_ep_pp, groups.expt_dp}) {
    ASSERT_NE(group, nullptr);
    EXPECT_EQ(group->size(), 1);
    EXPECT_TRUE(group->is_first() && group->is_last());
  }
  const at::Tensor tensor = at::arange(4);
  groups.tp->all_reduce(tensor);
  groups.tp->broadcast(tensor, 0);
  groups.tp->barrier();
  EXPECT_TRUE(groups.tp->all_gather(tensor).is_same(tensor));
  EXPECT_TRUE(groups.tp->reduce_scatter(tensor).is_same(tensor));
  EXPECT_TRUE(groups.tp->all_to_all(tensor).is_same(tensor));
  EXPECT_TRUE(at::equal(tensor, at::arange(4)));
}

TEST(ProcessGroupCollection, MembersAreTheGridsGroups) {
  run_thread_world(8, [](RankContext& context) {
    const auto groups = context.make_groups({.tp = 2, .dp = 2, .pp = 2});
    const int rank = context.rank, stage = rank / 4;
    EXPECT_EQ(groups.tp->ranks(), (std::vector{rank / 2 * 2, rank / 2 * 2 + 1}));
    EXPECT_EQ(groups.pp->ranks(), (std::vector{rank % 4, rank % 4 + 4}));
    EXPECT_EQ(groups.pp->rank(), stage);
    EXPECT_EQ(groups.embd->ranks(), groups.pp->ranks());
    EXPECT_EQ(groups.pos_embd != nullptr, stage == 0);
    EXPECT_EQ(groups.cp->size(), 1);
    // The sum of global ranks over each group.
    const auto sum = [&](const ProcessGroupPtr& group) {
      at::Tensor value = at::full({1}, rank, at::kLong);
      group->all_reduce(value);
      return value.item<int64_t>();
    };
    for (const auto& group : {groups.world, groups.tp, groups.pp, groups.dp, groups.dp_cp,
                              groups.mp, groups.embd, groups.tp_dp_cp}) {
      EXPECT_EQ(sum(group), std::accumulate(group->ranks().begin(), group->ranks().end(), 0))
          << group->name();
    }
  });
}

TEST(ProcessGroupCollection, MiddleStagesHaveNoEmbeddingGroup) {
  run_thread_world(3, [](RankContext& context) {
    const auto groups = context.make_groups({.pp = 3});
    EXPECT_EQ(groups.embd == nullptr, context.rank == 1);
    EXPECT_EQ(groups.pos_embd == nullptr, context.rank != 0);
    if (groups.embd) {
      EXPECT_THAT(groups.embd->ranks(), ElementsAre(0, 2));
      groups.embd->barrier();
    }
    // A second layout of the same world has other groups.
    const auto others = context.make_groups({.dp = 3});
    others.dp->barrier();
    groups.world->barrier();
  });
}

// Creates links although threads need none, and counts them.
class LinkingTransport final : public Transport {
 public:
  explicit LinkingTransport(std::shared_ptr<Transport> threads) : threads_(std::move(threads)) {}
  c10::intrusive_ptr<c10d::Backend> make_backend(const std::string& name,
                                                 const std::vector<int>& ranks) override {
    return threads_->make_backend(name, ranks);
  }
  c10::intrusive_ptr<c10d::Backend> make_link(const std::string& name,
                                              const std::vector<int>& ranks) override {
    ++links;
    return threads_->make_backend(name, ranks);
  }
  std::string kind() const override { return threads_->kind(); }

  int links = 0;

 private:
  std::shared_ptr<Transport> threads_;
};

TEST(ProcessGroupCollection, ThePipelineHasLinksWhereTheTransportCreatesThem) {
  run_thread_world(6, [](RankContext& context) {
    const auto transport = std::make_shared<LinkingTransport>(context.transport);
    context.transport = transport;
    const auto pp = context.make_groups({.dp = 2, .pp = 3}).pp;
    // To and from each of two neighbours, one kind of message each way.
    EXPECT_EQ(transport->links, 4);
    const int next = (pp->rank() + 1) % 3, previous = (pp->rank() + 2) % 3;
    const at::Tensor activation = at::full({5}, context.rank), gradient = activation + 10;
    const at::Tensor input = at::empty_like(activation), output_gradient = at::empty_like(gradient);
    const auto sent = {pp->isend(activation, next, kActivationTag),
                       pp->isend(gradient, previous, kGradientTag)};
    pp->recv(output_gradient, next, kGradientTag);
    pp->recv(input, previous, kActivationTag);
    for (const auto& message : sent) message->wait();
    EXPECT_EQ(input[4].item<int64_t>(), pp->ranks()[previous]);
    EXPECT_EQ(output_gradient[4].item<int64_t>(), pp->ranks()[next] + 10);
  });
}

TEST(ProcessGroupCollection, SizesMustMultiplyToTheWorld) {
  EXPECT_THAT(
      [] { run_thread_world(4, [](RankContext& context) { context.make_groups({.tp = 2}); }); },
      ThrowsMessage<Error>(AllOf(HasSubstr("the 4 ranks of the world, but they give 2"),
                                 HasSubstr("tensor 2, context 1, pipeline 1, data 2"))));
}

TEST(ProcessGroup, ShapesAndValues) {
  run_thread_world(4, [](RankContext& context) {
    const auto world = context.make_groups({.dp = 4}).world;
    const int rank = context.rank;
    const at::Tensor part = at::full({2, 3}, rank + 1.0);
    const at::Tensor all = world->all_gather(part.t().contiguous().t());  // strided input
    EXPECT_EQ(all.sizes(), at::IntArrayRef({8, 3}));
    EXPECT_EQ(all.sum().item<double>(), 60);
    EXPECT_EQ(all[5][0].item<double>(), 3);
    const at::Tensor mine = world->reduce_scatter(all);
    EXPECT_TRUE(at::equal(mine, part * 4));
    const at::Tensor exchanged = world->all_to_all(at::arange(4) + 10 * rank);
    EXPECT_TRUE(at::equal(exchanged, at::arange(4) * 10 + rank));
    // Rank 0 sends all of its rows to rank 3; the others send nothing.
    const bool first = rank == 0, last = rank == 3;
    const at::Tensor moved = world->all_to_all(at::ones({first ? 5 : 0, 2}),
                                               {last ? 5 : 0, 0, 0, 0}, {0, 0, 0, first ? 5 : 0});
    EXPECT_EQ(moved.size(0), last ? 5 : 0);
    at::Tensor root = at::full({2}, rank, at::kLong);
    world->broadcast(root, 2);
    EXPECT_EQ(root[1].item<int64_t>(), 2);
    at::Tensor largest = at::full({1}, rank, at::kLong);
    world->all_reduce(largest, ReduceOp::max);
    EXPECT_EQ(largest.item<int64_t>(), 3);

    // A ring in which all ranks send before they receive.
    const at::Tensor message = at::full({1000}, rank);
    at::Tensor received = at::empty_like(message);
    const auto sent = world->isend(message, (rank + 1) % 4, /*tag=*/5);
    world->recv(received, (rank + 3) % 4, /*tag=*/5);
    sent->wait();
    EXPECT_EQ(received[999].item<int64_t>(), (rank + 3) % 4);
  });
}

// Three operations in flight, waited for in another order than they started.
TEST(ProcessGroup, AsynchronousForms) {
  run_thread_world(4, [](RankContext& context) {
    const auto world = context.make_groups({.dp = 4}).world;
    const at::Tensor part = at::full({2, 3}, context.rank + 1.0);
    const at::Tensor sum = part.clone(), all = at::empty({8, 3});
    const at::Tensor scattered_from = at::arange(24).view({8, 3}).to(at::kFloat);
    const at::Tensor scattered = at::empty({2, 3});
    const auto reducing = world->iall_reduce(sum);
    const auto gathering = world->iall_gather(all, part);
    const auto scattering = world->ireduce_scatter(scattered, scattered_from);
    scattering->wait();
    gathering->wait();
    reducing->wait();
    EXPECT_TRUE(at::equal(sum, at::full({2, 3}, 10.0)));
    EXPECT_TRUE(at::equal(all, world->all_gather(part)));
    EXPECT_TRUE(at::equal(scattered, scattered_from.narrow(0, 2 * context.rank, 2) * 4));
    EXPECT_THAT(
        [&] {
          world->iall_gather(at::empty({7, 3}), part);
        },
        ThrowsMessage<Error>(HasSubstr("Expected an output of 4 times [2, 3]")));
  });
}

TEST(ProcessGroup, MessagesOfALinkGoOverItsBackend) {
  const CommandedGroup whole(/*rank=*/1, /*size=*/3);
  whole.backend->complete_all();
  const auto to = c10::make_intrusive<CommandedBackend>(/*rank=*/0, /*size=*/2);
  const auto from = c10::make_intrusive<CommandedBackend>(/*rank=*/1, /*size=*/2);
  const ProcessGroup group("pp", {0, 1, 2}, /*global_rank=*/1, whole.backend,
                           std::chrono::seconds(60), at::kCPU,
                           {{{1, 2, kActivationTag}, to}, {{0, 1, kActivationTag}, from}});
  const at::Tensor tensor = at::ones({2});
  group.isend(tensor, 2, kActivationTag);
  group.irecv(tensor, 0, kActivationTag);
  EXPECT_THAT(to->log(), ElementsAre("start send 0"));
  EXPECT_THAT(from->log(), ElementsAre("start recv 0"));
  EXPECT_THAT(whole.backend->log(), ElementsAre());
  // A message with another tag, and one in the other direction.
  group.isend(tensor, 2, kGradientTag);
  group.irecv(tensor, 2, kActivationTag);
  EXPECT_THAT(whole.backend->log(), ElementsAre("start send 0", "start recv 1"));
}

TEST(ProcessGroup, FailureNamesRankGroupAndOperation) {
  EXPECT_THAT(
      [] {
        run_thread_world(4, [](RankContext& context) {
          const auto groups = context.make_groups({.tp = 2, .dp = 2});
          at::Tensor tensor = at::zeros({context.rank == 3 ? 2 : 1});
          if (context.rank >= 2) groups.tp->all_reduce(tensor);
        });
      },
      ThrowsMessage<CommunicationError>(
          AllOf(HasSubstr("all_reduce over group tp (ranks [2, 3]) on rank 2"),
                HasSubstr("rank 2 called all_reduce (sum) of 1 Float"))));
}

TEST(ProcessGroup, BadArguments) {
  const auto tp = ProcessGroupCollection::single_rank().tp;
  EXPECT_THAT(
      [&] {
        tp->all_reduce(at::zeros({2, 3}).t());
      },
      ThrowsMessage<Error>(HasSubstr(".contiguous()")));
  EXPECT_THAT([&] { tp->broadcast(at::zeros({1}), 1); },
              ThrowsMessage<Error>(HasSubstr("group rank of 0 to 0")));
  run_thread_world(2, [](RankContext& context) {
    const auto dp = context.make_groups({.dp = 2}).dp;
    EXPECT_THAT([&] { dp->reduce_scatter(at::zeros({3})); },
                ThrowsMessage<Error>(HasSubstr("divisible by 2")));
    EXPECT_THAT([&] { dp->isend(at::zeros({3}), context.rank); },
                ThrowsMessage<Error>(HasSubstr("another rank")));
    EXPECT_THAT(
        [&] {
          dp->all_to_all(at::zeros({3}), {1, 1}, {1, 1});
        },
        ThrowsMessage<Error>(HasSubstr("sum to the 3 rows")));
  });
}

TEST(SameOnAllRanks, NamesTheRankThatDiffers) {
  run_thread_world(3, [](RankContext& context) {
    const auto world = context.make_groups({.dp = 3}).world;
    check_same_on_all_ranks(*world, "options", 0xfedcba9876543210u);
    EXPECT_THAT(
        [&] { check_same_on_all_ranks(*world, "options", context.rank == 1 ? 1 : 2); },
        ThrowsMessage<Error>(HasSubstr("the same options on all 3 ranks, but rank [1] differs")));
  });
}

}  // namespace
}  // namespace megatron
