// Simulates the stages' actions on the strictest transport: no pipeline deadlocks.
#include "megatron/pipeline/stage_actions.h"

#include <deque>
#include <functional>
#include <gmock/gmock.h>
#include <map>
#include <set>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/pipeline/schedule_requests.h"

namespace megatron {
namespace {

// The queue that carries the messages of a link between two stages.
using Queue = std::tuple<int, int, int>;
using QueueOf = std::function<Queue(const MessageLink&)>;

Queue queue_for_each_link(const MessageLink& link) {
  return {link.source, link.destination, link.tag};
}
Queue queue_for_each_pair(const MessageLink& link) {
  return {std::min(link.source, link.destination), std::max(link.source, link.destination), 0};
}
Queue queue_for_each_tag(const MessageLink& link) {
  const auto [low, high, none] = queue_for_each_pair(link);
  return {low, high, link.tag};
}
Queue queue_for_each_direction(const MessageLink& link) {
  return {link.source, link.destination, 0};
}

struct OrderedTransport {
  QueueOf queue_of = queue_for_each_link;
  // Whether the first message of a queue blocks both stages until each has reached its first.
  bool connects_at_first_use = false;
};

// Models NCCL without buffers: on each side a queue runs messages in the order in which they began,
// and a message is delivered only while it is at the head of the queue on both sides. Beginning a
// transfer does not block; ending it waits for the delivery.
class OrderedPipeline {
 public:
  OrderedPipeline(const PipelineSchedule& schedule, bool overlap, const OrderedTransport& transport)
      : schedule_(schedule), transport_(transport), chunks_(chunks_of(schedule)) {
    for (int stage = 0; stage < stages(); ++stage)
      stages_.push_back({.actions = stage_actions(schedule, stage, overlap)});
  }

  // Whether every stage finishes its actions.
  bool completes() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int stage = 0; stage < stages(); ++stage) {
        while (advance(stage)) moved = true;
      }
    }
    for (const Stage& stage : stages_) {
      if (stage.next != stage.actions.size()) return false;
    }
    return true;
  }

 private:
  using Action = StageAction::Kind;
  // Identifies the step that receives it: stage, kind, micro-batch and chunk.
  using Message = std::tuple<int, PipelineStep::Kind, int64_t, int>;
  struct Operation {
    bool sends;
    Message message;
  };
  struct Stage {
    std::vector<StageAction> actions;
    size_t next = 0;
    std::set<Message> begun;  // and not delivered
    std::map<Queue, std::deque<Operation>> queues = {};
  };

  int stages() const { return static_cast<int>(schedule_.size()); }

  // Runs the next action of a stage. Returns whether it could.
  bool advance(int index) {
    Stage& stage = stages_[index];
    if (stage.next == stage.actions.size()) return false;
    const StageAction action = stage.actions[stage.next];
    const PlacedStep placed{index, schedule_[index][action.step]};
    if (action.kind != Action::compute) {
      const bool sends = action.kind == Action::begin_send || action.kind == Action::end_send;
      const PlacedStep consumer =
          sends ? destination_of(placed, stages(), chunks_).value() : placed;
      const Message message{consumer.stage, consumer.step.kind, consumer.step.microbatch,
                            consumer.step.chunk};
      const MessageLink link = link_into(consumer, stages(), chunks_);
      if (action.kind == Action::end_send || action.kind == Action::end_receive) {
        if (stage.begun.contains(message)) return false;
      } else if (!begin(index, {sends, message}, link)) {
        return false;
      }
    }
    stage.next += 1;
    return true;
  }

  bool begin(int index, const Operation& operation, const MessageLink& link) {
    const int other = index == link.source ? link.destination : link.source;
    const Queue queue = transport_.queue_of(link);
    if (transport_.connects_at_first_use) {
      came_.insert({queue, index});
      if (!came_.contains({queue, other})) return false;
    }
    stages_[index].begun.insert(operation.message);
    std::deque<Operation>&mine = stages_[index].queues[queue],
    &theirs = stages_[other].queues[queue];
    mine.push_back(operation);
    while (!mine.empty() && !theirs.empty() && mine.front().sends != theirs.front().sends &&
           mine.front().message == theirs.front().message) {
      for (const int side : {index, other}) stages_[side].begun.erase(mine.front().message);
      mine.pop_front();
      theirs.pop_front();
    }
    return true;
  }

  const PipelineSchedule& schedule_;
  OrderedTransport transport_;
  int chunks_;
  std::vector<Stage> stages_;
  std::set<std::pair<Queue, int>> came_;
};

bool completes_in_order(const ScheduleRequest& request, bool overlap,
                        const OrderedTransport& transport = {}) {
  const PipelineSchedule schedule = make_schedule(request);
  return OrderedPipeline(schedule, overlap, transport).completes();
}

std::string actions_text(const std::vector<StageAction>& actions) {
  constexpr const char* kNames[] = {"?", "<", "c", "!", ">"};
  std::string text;
  for (const auto& [kind, step] : actions)
    text += fmt::format("{}{}{}", text.empty() ? "" : " ", kNames[static_cast<int>(kind)], step);
  return text;
}

TEST(StageActions, EqualsAListWrittenByHand) {
  // Two stages, three micro-batches: F0 F1 B0 F2 B1 B2 and F0 B0 F1 B1 F2 B2. "?" begins
  // to receive the input of a step, "<" ends that, "c" computes, "!" begins to send, ">" ends that.
  const PipelineSchedule schedule = make_schedule({.stages = 2, .microbatches = 3});
  EXPECT_EQ(actions_text(stage_actions(schedule, 0, /*overlap=*/true)),
            "c0 !0 ?2 c1 >0 !1 ?4 <2 c2 c3 >1 !3 ?5 <4 c4 <5 c5 >3");
  EXPECT_EQ(actions_text(stage_actions(schedule, 1, /*overlap=*/true)),
            "?0 ?2 <0 c0 c1 !1 ?4 <2 c2 c3 >1 !3 <4 c4 c5 >3 !5 >5");
  EXPECT_EQ(actions_text(stage_actions(schedule, 1, /*overlap=*/false)),
            "?0 <0 c0 c1 !1 ?2 <2 c2 c3 >1 !3 ?4 <4 c4 c5 >3 !5 >5");
}

TEST(StageActions, ComputeCombinedPairsAtOnce) {
  // F0 F1 F2 F3+B0 B1 B2 B3 and F0 F1+B0 F2+B1 F3+B2 B3.
  const PipelineSchedule schedule =
      make_schedule({.stages = 2, .microbatches = 4, .combined = true});
  EXPECT_EQ(actions_text(stage_actions(schedule, 0, /*overlap=*/false)),
            "c0 !0 c1 >0 !1 c2 >1 !2 ?4 <4 c3 >2 !3 ?5 <5 c5 ?6 <6 c6 ?7 <7 c7 >3");
  EXPECT_EQ(actions_text(stage_actions(schedule, 1, /*overlap=*/false)),
            "?0 <0 c0 ?1 <1 c1 !2 ?3 <3 c3 >2 !4 ?5 <5 c5 >4 !6 c7 >6 !7 >7");
}

TEST(StageActions, NeverDeadlockOnOrderedQueues) {
  for_all_requests([](ScheduleRequest request) {
    for (const bool evaluates : {false, true}) {
      request.forward_only = evaluates;
      for (const bool overlap : {false, true}) {
        ASSERT_TRUE(completes_in_order(request, overlap))
            << name_of(request) << ", overlap " << overlap;
      }
    }
  });
}

TEST(StageActions, UseOnlyTheLinksOfThePipeline) {
  for_all_requests([](const ScheduleRequest& request) {
    if (request.microbatches > 2) return;
    const std::vector<MessageLink> links = pipeline_links(request.stages);
    const PipelineSchedule schedule = make_schedule(request);
    for (int stage = 0; stage < request.stages; ++stage) {
      for (const PipelineStep& step : schedule[stage]) {
        if (!source_of({stage, step}, request.stages, request.chunks)) continue;
        const MessageLink link = link_into({stage, step}, request.stages, request.chunks);
        EXPECT_THAT(links, ::testing::Contains(link)) << name_of(request);
      }
    }
  });
}

// Shows why a link has one direction and one kind of message: with fewer queues stages deadlock.
TEST(StageActions, DeadlockWhereMessagesShareAQueue) {
  // Stage 0 begins F0, B0, F1 and stage 1 F0, F1, B0; without overlap it is the other way round.
  const ScheduleRequest plain{.stages = 2, .microbatches = 3};
  for (const bool overlap : {false, true}) {
    EXPECT_FALSE(completes_in_order(plain, overlap, {queue_for_each_pair}));
  }
  for (const int stages : {3, 4, 8}) {
    EXPECT_FALSE(completes_in_order({.stages = stages, .microbatches = 8}, /*overlap=*/true,
                                    {queue_for_each_pair}));
  }
  const ScheduleRequest round{.stages = 2, .chunks = 2, .microbatches = 4};
  for (const bool overlap : {false, true}) {
    EXPECT_FALSE(completes_in_order(round, overlap, {queue_for_each_pair}));
  }
  EXPECT_FALSE(completes_in_order(round, /*overlap=*/true, {queue_for_each_tag}));
  ScheduleRequest large = round;
  large.group = 4;
  EXPECT_FALSE(completes_in_order(large, /*overlap=*/true, {queue_for_each_direction}));
}

// Shows why links connect before the pipeline runs.
TEST(StageActions, DeadlockWhereLinksConnectAtTheirFirstMessage) {
  const ScheduleRequest round{.stages = 2, .chunks = 2, .microbatches = 4};
  EXPECT_FALSE(completes_in_order(round, /*overlap=*/true,
                                  {queue_for_each_link, /*connects_at_first_use=*/true}));
}

}  // namespace
}  // namespace megatron
