// What a stage does to run its list of a schedule, in order: it computes, and begins and ends
// transfers. Data, like the schedule: the executor follows it, tests prove that no order of a
// transport makes the stages wait in a circle.
#pragma once

#include <cstddef>
#include <vector>

#include "megatron/parallel/pipeline_links.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

struct StageAction {
  enum class Kind { begin_receive, end_receive, compute, begin_send, end_send };
  Kind kind = Kind::compute;
  size_t step = 0;  // its place in the stage's list: what it takes in, or its result
};

// `overlap`: receives begin two steps before the one that needs them, else right before it. Sends
// end where sends_in_flight() of their kind are on their way and the next begins, or at the end.
// On each link both sides begin their messages in the same order.
std::vector<StageAction> stage_actions(const PipelineSchedule& schedule, int stage, bool overlap);

// The link of pipeline_links() over which the step gets what it takes in; it must have a source.
MessageLink link_into(const PlacedStep& consumer, int stages, int chunks);

}  // namespace megatron
