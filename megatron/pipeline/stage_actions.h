// The ordered actions by which a stage runs its list of a schedule: compute, begin and end
// transfers. They are data, like the schedule: the executor follows them, and tests check that they
// cannot deadlock on a transport that runs messages strictly in order.
#pragma once

#include <cstddef>
#include <vector>

#include "megatron/parallel/pipeline_links.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

struct StageAction {
  enum class Kind { begin_receive, end_receive, compute, begin_send, end_send };
  Kind kind = Kind::compute;
  // Index in the stage's list: receives concern its input, sends its result. `compute` of a step with
  // with_next computes the next one, too.
  size_t step = 0;
};

// With `overlap`, receives begin two steps before the step that needs them, else right before it. A
// send ends when the next one begins with sends_in_flight() of its kind in flight, or at the end of
// the list. Both sides of a link begin their messages in the same order.
std::vector<StageAction> stage_actions(const PipelineSchedule& schedule, int stage, bool overlap);

// The link of pipeline_links() that carries the step's input. The step must have a source.
MessageLink link_into(const PlacedStep& consumer, int stages, int chunks);

}  // namespace megatron
