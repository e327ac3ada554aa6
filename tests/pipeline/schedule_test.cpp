// Schedules equal Megatron's, contain every step once, and never deadlock.
#include "megatron/pipeline/schedule.h"

#include <deque>
#include <gmock/gmock.h>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/planner/timeline.h"

#include "tests/pipeline/schedule_requests.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;
using Kind = PipelineStep::Kind;

// "F0 F1 B0": forward and backward of micro-batches; "F0.1" in chunk 1; "F1+B0" is a combined pair.
std::string as_text(const std::vector<PipelineStep>& steps) {
  std::string text;
  for (const PipelineStep& step : steps) {
    const bool joins = text.empty() || text.back() == '+';
    text += fmt::format("{}{}{}{}{}", joins ? "" : " ", step.kind == Kind::forward ? "F" : "B",
                        step.microbatch, step.chunk > 0 ? fmt::format(".{}", step.chunk) : "",
                        step.with_next ? "+" : "");
  }
  return text;
}

// Only the passes of one kind, as micro-batch and chunk: "00 10 01".
std::string passes(const std::vector<PipelineStep>& steps, Kind kind) {
  std::string text;
  for (const PipelineStep& step : steps) {
    if (step.kind != kind) continue;
    text += fmt::format("{}{}{}", text.empty() ? "" : " ", step.microbatch, step.chunk);
  }
  return text;
}

TEST(NoPipelining, RunsMicrobatchesOneAfterAnother) {
  EXPECT_EQ(as_text(no_pipelining(3)), "F0 B0 F1 B1 F2 B2");
}

TEST(OneForwardOneBackward, EqualsListsWrittenByHand) {
  EXPECT_EQ(as_text(one_forward_one_backward(0, 1, 2)), "F0 B0 F1 B1");
  EXPECT_EQ(as_text(one_forward_one_backward(0, 2, 3)), "F0 F1 B0 F2 B1 B2");
  EXPECT_EQ(as_text(one_forward_one_backward(1, 2, 3)), "F0 B0 F1 B1 F2 B2");
  EXPECT_EQ(as_text(one_forward_one_backward(0, 4, 4)), "F0 F1 F2 F3 B0 B1 B2 B3");
  EXPECT_EQ(as_text(one_forward_one_backward(2, 4, 4)), "F0 F1 B0 F2 B1 F3 B2 B3");
  EXPECT_EQ(as_text(one_forward_one_backward(0, 4, 2)),
            "F0 F1 B0 B1");  // fewer micro-batches than stages
}

// Megatron's published example: P = 2, C = 2, M = 4, groups of 2.
TEST(Interleaved, EqualsMegatronsTable) {
  const auto first = interleaved_one_forward_one_backward(0, 2, 2, 4, 2);
  EXPECT_EQ(passes(first, Kind::forward), "00 10 01 11 20 30 21 31");
  EXPECT_EQ(passes(first, Kind::backward), "01 11 00 10 21 31 20 30");
  // (P - r - 1) * 2 + (C - 1) * g forward passes come first: 4 on rank 0, 2 on rank 1.
  EXPECT_EQ(as_text(first), "F0 F1 F0.1 F1.1 F2 B0.1 F3 B1.1 F2.1 B0 F3.1 B1 B2.1 B3.1 B2 B3");
  EXPECT_EQ(as_text(interleaved_one_forward_one_backward(1, 2, 2, 4, 2)),
            "F0 F1 F0.1 B0.1 F1.1 B1.1 F2 B0 F3 B1 F2.1 B2.1 F3.1 B3.1 B2 B3");
}

TEST(Interleaved, RunsGroupsOfTheRequestedSize) {
  // P = 2, C = 2, M = 5, groups of 3: the last group holds 2.
  EXPECT_EQ(passes(interleaved_one_forward_one_backward(0, 2, 2, 5, 3), Kind::forward),
            "00 10 20 01 11 21 30 40 31 41");
  // One group of all: every micro-batch passes through a chunk before the next chunk begins.
  EXPECT_EQ(passes(interleaved_one_forward_one_backward(0, 2, 2, 4, 4), Kind::forward),
            "00 10 20 30 01 11 21 31");
}

TEST(Interleaved, ASmallRemainderJoinsTheLastGroup) {
  EXPECT_EQ(passes(interleaved_one_forward_one_backward(0, 2, 2, 5), Kind::forward),
            "00 10 01 11 20 30 40 21 31 41");
  // Fewer micro-batches than stages are one group.
  EXPECT_EQ(passes(interleaved_one_forward_one_backward(0, 4, 2, 3), Kind::forward),
            "00 10 20 01 11 21");
}

TEST(Interleaved, RefusesGroupsThatMegatronRefuses) {
  const auto refusal = [](int stages, int64_t microbatches, int64_t group) -> std::string {
    try {
      interleaved_one_forward_one_backward(0, stages, 2, microbatches, group);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal(4, 8, 3), HasSubstr("groups of 4 to 8 micro-batches"));
  EXPECT_THAT(refusal(4, 8, 9), HasSubstr("got groups of 9"));
  EXPECT_THAT(refusal(4, 9, 4), HasSubstr("a remainder of 0 or at least 4"));
  EXPECT_EQ(refusal(4, 12, 8), "accepted");
  EXPECT_EQ(refusal(4, 8, 4), "accepted");
}

TEST(Combined, EqualsListsWrittenByHand) {
  EXPECT_EQ(as_text(combined_one_forward_one_backward(0, 1, 1, 3)), "F0 F1+B0 F2+B1 B2");
  EXPECT_EQ(as_text(combined_one_forward_one_backward(0, 1, 1, 1)), "F0 B0");
  EXPECT_EQ(as_text(combined_one_forward_one_backward(0, 2, 1, 4)), "F0 F1 F2 F3+B0 B1 B2 B3");
  EXPECT_EQ(as_text(combined_one_forward_one_backward(1, 2, 1, 4)), "F0 F1+B0 F2+B1 F3+B2 B3");
  EXPECT_EQ(as_text(combined_one_forward_one_backward(0, 2, 1, 2)), "F0 F1 B0 B1");
  // Megatron's interleaved schedule with one more warm-up pass: 5 and 3.
  EXPECT_EQ(as_text(combined_one_forward_one_backward(0, 2, 2, 4, 2)),
            "F0 F1 F0.1 F1.1 F2 F3+B0.1 F2.1+B1.1 F3.1+B0 B1 B2.1 B3.1 B2 B3");
  EXPECT_EQ(as_text(combined_one_forward_one_backward(1, 2, 2, 4, 2)),
            "F0 F1 F0.1 F1.1+B0.1 F2+B1.1 F3+B0 F2.1+B1 F3.1+B2.1 B3.1 B2 B3");
}

TEST(Combined, PairsAreOfDifferentPasses) {
  for_all_requests([](const ScheduleRequest& request) {
    for (const auto& steps : make_schedule(request)) {
      for (size_t i = 0; i < steps.size(); ++i) {
        if (!steps[i].with_next) continue;
        ASSERT_TRUE(request.combined && i + 1 < steps.size()) << name_of(request);
        ASSERT_TRUE(steps[i].kind == Kind::forward && steps[i + 1].kind == Kind::backward);
        ASSERT_FALSE(steps[i].microbatch == steps[i + 1].microbatch &&
                     steps[i].chunk == steps[i + 1].chunk)
            << name_of(request);
      }
    }
  });
}

TEST(ForwardOnly, KeepsTheOrderOfTheForwardSteps) {
  EXPECT_EQ(as_text(forward_only(one_forward_one_backward(0, 2, 3))), "F0 F1 F2");
  EXPECT_EQ(as_text(forward_only(interleaved_one_forward_one_backward(1, 2, 2, 2))),
            "F0 F1 F0.1 F1.1");
}

TEST(Schedule, ContainsEveryStepOnceAndForwardBeforeBackward) {
  for_all_requests([](const ScheduleRequest& request) {
    for (const auto& steps : make_schedule(request)) {
      std::set<std::pair<int64_t, int>> forward, backward;
      for (const PipelineStep& step : steps) {
        const std::pair pass(step.microbatch, step.chunk);
        if (step.kind == Kind::backward) {
          ASSERT_TRUE(forward.contains(pass)) << name_of(request);
        }
        ASSERT_TRUE((step.kind == Kind::forward ? forward : backward).insert(pass).second);
      }
      const auto passes = static_cast<size_t>(request.microbatches * request.chunks);
      ASSERT_EQ(forward.size(), passes) << name_of(request);
      ASSERT_EQ(backward.size(), passes) << name_of(request);
    }
  });
}

// Simulates the lists on a transport without buffers: a message is delivered when the receiver
// reaches the step that needs it. A stage computes once it has its input; then it waits until fewer
// than `in_flight` of its results of that kind are undelivered. Returns whether every stage
// finishes.
bool completes(const ScheduleRequest& request, const PipelineSchedule& schedule,
               int64_t in_flight) {
  struct Stage {
    size_t next = 0;
    bool has_computed = false;
    std::deque<PlacedStep> sent[2];  // by kind: possibly undelivered
  };
  std::vector<Stage> stages(schedule.size());
  const auto key = [&](const PlacedStep& placed) {
    const int64_t backward = placed.step.kind == Kind::backward ? 1 : 0;
    return ((placed.stage * 2 + backward) * request.chunks + placed.step.chunk) *
               request.microbatches +
           placed.step.microbatch;
  };
  const int64_t keys = int64_t{2} * request.stages * request.chunks * request.microbatches;
  std::vector<bool> results(keys, false);
  std::vector<size_t> places(keys, 0);  // in the stage's list
  for (int stage = 0; stage < request.stages; ++stage) {
    for (size_t i = 0; i < schedule[stage].size(); ++i)
      places[key({stage, schedule[stage][i]})] = i;
  }
  // Whether the receiving stage has reached the step.
  const auto is_delivered = [&](const PlacedStep& consumer) {
    return places[key(consumer)] <= stages[consumer.stage].next;
  };
  // Runs the next step of a stage. Returns whether it could.
  const auto advance = [&](int index) {
    Stage& stage = stages[index];
    if (stage.next == schedule[index].size()) return false;
    const PlacedStep placed{index, schedule[index][stage.next]};
    if (!stage.has_computed) {
      const auto source = source_of(placed, request.stages, request.chunks);
      if (source && !results[key(*source)]) return false;
      stage.has_computed = true;
    }
    if (const auto to = destination_of(placed, request.stages, request.chunks)) {
      auto& sent = stage.sent[placed.step.kind == Kind::forward ? 0 : 1];
      while (!sent.empty() && is_delivered(sent.front())) sent.pop_front();
      if (std::ssize(sent) >= in_flight) return false;
      sent.push_back(*to);
    }
    results[key(placed)] = true;
    stage.next += 1;
    stage.has_computed = false;
    return true;
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (int stage = 0; stage < request.stages; ++stage) {
      while (advance(stage)) moved = true;
    }
  }
  for (int stage = 0; stage < request.stages; ++stage) {
    if (stages[stage].next != schedule[stage].size()) return false;
  }
  return true;
}

TEST(Schedule, NeverDeadlocksOnBlockingTransfers) {
  for_all_requests([](ScheduleRequest request) {
    for (const bool evaluates : {false, true}) {
      request.forward_only = evaluates;
      const PipelineSchedule schedule = make_schedule(request);
      ASSERT_TRUE(completes(request, schedule, sends_in_flight(schedule))) << name_of(request);
    }
  });
  // Large groups need more sends in flight.
  const ScheduleRequest large{.stages = 2, .chunks = 2, .microbatches = 8, .group = 8};
  EXPECT_FALSE(completes(large, make_schedule(large), 4));
}

// Transports match messages of one kind between two stages by order only.
TEST(Schedule, SendsInTheOrderOfReceiving) {
  for_all_requests([](const ScheduleRequest& request) {
    const PipelineSchedule schedule = make_schedule(request);
    for (int stage = 0; stage < request.stages; ++stage) {
      for (const Kind kind : {Kind::forward, Kind::backward}) {
        const int step_of = kind == Kind::forward ? 1 : -1;
        const int other = (stage + step_of + request.stages) % request.stages;
        std::vector<PlacedStep> sent, received;
        for (const PipelineStep& step : schedule[stage]) {
          const auto to = destination_of({stage, step}, request.stages, request.chunks);
          if (step.kind == kind && to) sent.push_back(*to);
        }
        for (const PipelineStep& step : schedule[other]) {
          const PlacedStep here{other, {step.kind, step.microbatch, step.chunk}};
          if (step.kind == kind && source_of(here, request.stages, request.chunks))
            received.push_back(here);
        }
        ASSERT_TRUE(sent == received) << name_of(request) << ", stage " << stage;
      }
    }
  });
}

TEST(OneForwardOneBackward, HasAtMostOneMicrobatchInFlightPerRemainingStage) {
  for (int stage = 0; stage < 4; ++stage) {
    int64_t held = 0, most = 0;
    for (const PipelineStep& step : one_forward_one_backward(stage, 4, 16)) {
      held += step.kind == PipelineStep::Kind::forward ? 1 : -1;
      most = std::max(most, held);
    }
    EXPECT_EQ(most, 4 - stage);
  }
}

TEST(Timeline, HasTheKnownBubbles) {
  for (const int stages : {1, 2, 4, 8}) {
    for (const int64_t microbatches : {8, 16}) {
      const auto m = double(microbatches);
      const ScheduleTimeline plain =
          time_schedule(make_schedule({.stages = stages, .microbatches = microbatches}));
      EXPECT_DOUBLE_EQ(plain.efficiency(), m / (m + stages - 1));
      EXPECT_DOUBLE_EQ(plain.duration, 3 * (m + stages - 1));
      if (stages == 1) continue;
      // v chunks make the bubble v times smaller.
      const ScheduleTimeline chunked = time_schedule(
          make_schedule({.stages = stages, .chunks = 2, .microbatches = microbatches}));
      EXPECT_DOUBLE_EQ(chunked.efficiency(), 2 * m / (2 * m + stages - 1));
    }
  }
}

TEST(Timeline, RefusesListsThatDeadlock) {
  const PipelineSchedule crossed = {{{Kind::forward, 0, 0}, {Kind::forward, 0, 1}},
                                    {{Kind::forward, 0, 1}, {Kind::forward, 0, 0}}};
  EXPECT_THROW(time_schedule(crossed), Error);
}

}  // namespace
}  // namespace megatron
