#include "megatron/planner/timeline.h"

#include <algorithm>
#include <map>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using PlacedKey = std::tuple<int, PipelineStep::Kind, int64_t, int>;
PlacedKey placed_key(int stage, const PipelineStep& step) {
  return {stage, step.kind, step.microbatch, step.chunk};
}

}  // namespace

double unit_cost(int, const PipelineStep& step) {
  return step.kind == PipelineStep::Kind::forward ? 1 : 2;
}

ScheduleTimeline time_schedule(const PipelineSchedule& schedule, const StepCost& cost) {
  const int stages = static_cast<int>(schedule.size()), chunks = chunks_of(schedule);
  ScheduleTimeline timeline;
  timeline.stages.resize(schedule.size());
  std::map<PlacedKey, double> done;
  // When the inputs of a step are ready; nullopt if they are not computed yet.
  const auto arrival = [&](int stage, const PipelineStep& step) -> std::optional<double> {
    double at = 0;
    const auto need = [&](int where, const PipelineStep& what) {
      const auto found = done.find(placed_key(where, what));
      if (found == done.end()) return false;
      at = std::max(at, found->second);
      return true;
    };
    const auto source = source_of({stage, step}, stages, chunks);
    if (source && !need(source->stage, source->step)) return std::nullopt;
    if (step.kind == PipelineStep::Kind::backward &&
        !need(stage, {PipelineStep::Kind::forward, step.microbatch, step.chunk}))
      return std::nullopt;
    return at;
  };
  size_t left = 0;
  for (const auto& steps : schedule) left += steps.size();
  while (left > 0) {
    const size_t before = left;
    for (int stage = 0; stage < stages; ++stage) {
      std::vector<TimedStep>& timed = timeline.stages[stage];
      while (timed.size() < schedule[stage].size()) {
        const PipelineStep& step = schedule[stage][timed.size()];
        const auto at = arrival(stage, step);
        if (!at) break;
        const double start = std::max(*at, timed.empty() ? 0.0 : timed.back().end);
        const double spent = cost(stage, step);
        timed.push_back({step, start, start + spent});
        done[placed_key(stage, step)] = start + spent;
        timeline.duration = std::max(timeline.duration, start + spent);
        timeline.work += spent;
        --left;
      }
    }
    check(left < before,
          "Expected a schedule without deadlock, but got one in which all {} stages wait for each "
          "other with {} steps left",
          stages, left);
  }
  return timeline;
}

}  // namespace megatron
