#include "megatron/pipeline/schedule.h"

#include <gtest/gtest.h>

namespace megatron {
namespace {

// "F0 F1 B0": forward and backward of micro-batches.
std::string as_text(const std::vector<PipelineStep>& steps) {
  std::string text;
  for (const PipelineStep& step : steps) {
    text += (text.empty() ? "" : " ") +
            std::string(step.kind == PipelineStep::Kind::forward ? "F" : "B") +
            std::to_string(step.microbatch);
  }
  return text;
}

TEST(OneForwardOneBackward, HandCases) {
  EXPECT_EQ(as_text(one_forward_one_backward(0, 1, 2)), "F0 B0 F1 B1");
  EXPECT_EQ(as_text(one_forward_one_backward(0, 2, 3)), "F0 F1 B0 F2 B1 B2");
  EXPECT_EQ(as_text(one_forward_one_backward(1, 2, 3)), "F0 B0 F1 B1 F2 B2");
  EXPECT_EQ(as_text(one_forward_one_backward(0, 4, 4)), "F0 F1 F2 F3 B0 B1 B2 B3");
  EXPECT_EQ(as_text(one_forward_one_backward(2, 4, 4)), "F0 F1 B0 F2 B1 F3 B2 B3");
  EXPECT_EQ(as_text(one_forward_one_backward(0, 4, 2)),
            "F0 F1 B0 B1");  // fewer micro-batches than stages
}

TEST(ForwardOnly, RunsMicrobatchesInOrder) {
  EXPECT_EQ(as_text(forward_only(3)), "F0 F1 F2");
}

// Runs the lists of all stages against a model in which a stage waits for what it receives: false
// where all wait.
bool completes(int stages, int64_t microbatches) {
  std::vector<std::vector<PipelineStep>> lists;
  for (int stage = 0; stage < stages; ++stage) {
    lists.push_back(one_forward_one_backward(stage, stages, microbatches));
  }
  std::vector<size_t> next(stages, 0);
  std::vector<std::set<int64_t>> forward_done(stages), backward_done(stages);
  for (bool moved = true; moved;) {
    moved = false;
    for (int stage = 0; stage < stages; ++stage) {
      if (next[stage] == lists[stage].size()) continue;
      const PipelineStep step = lists[stage][next[stage]];
      const bool forward = step.kind == PipelineStep::Kind::forward;
      const bool ready =
          forward ? stage == 0 || forward_done[stage - 1].contains(step.microbatch)
                  : forward_done[stage].contains(step.microbatch) &&
                        (stage == stages - 1 || backward_done[stage + 1].contains(step.microbatch));
      if (!ready) continue;
      (forward ? forward_done : backward_done)[stage].insert(step.microbatch);
      ++next[stage];
      moved = true;
    }
  }
  for (int stage = 0; stage < stages; ++stage) {
    if (next[stage] != lists[stage].size()) return false;
    if (int64_t(backward_done[stage].size()) != microbatches) return false;
  }
  return true;
}

TEST(OneForwardOneBackward, NeverDeadlocks) {
  for (int stages = 1; stages <= 8; ++stages) {
    for (int64_t microbatches = 1; microbatches <= 32; ++microbatches) {
      EXPECT_TRUE(completes(stages, microbatches))
          << stages << " stages, " << microbatches << " micro-batches";
    }
  }
}

TEST(OneForwardOneBackward, HoldsAtMostAsManyMicrobatchesAsStagesAreLeft) {
  for (int stage = 0; stage < 4; ++stage) {
    int64_t held = 0, most = 0;
    for (const PipelineStep& step : one_forward_one_backward(stage, 4, 16)) {
      held += step.kind == PipelineStep::Kind::forward ? 1 : -1;
      most = std::max(most, held);
    }
    EXPECT_EQ(most, 4 - stage);
  }
}

}  // namespace
}  // namespace megatron
