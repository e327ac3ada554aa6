// Simulates a pipeline schedule: when each stage runs each step, with communication at no cost.
#pragma once

#include <functional>

#include "megatron/pipeline/schedule.h"

namespace megatron {

struct TimedStep {
  PipelineStep step;
  double start = 0, end = 0;
};

struct ScheduleTimeline {
  std::vector<std::vector<TimedStep>> stages;  // by stage, in schedule order
  double duration = 0;                         // end of the last step
  double work = 0;                             // summed time of all steps

  // Fraction of the stages' time spent computing: the upper bound that the schedule sets.
  double efficiency() const { return work / (duration * double(stages.size())); }
  double bubble() const { return 1 - efficiency(); }
};

using StepCost = std::function<double(int stage, const PipelineStep& step)>;

// 1 for a forward step, 2 for a backward step.
double unit_cost(int stage, const PipelineStep& step);

// A step starts as soon as the previous step of its stage and the step that produces its input have
// ended. Throws Error on a deadlock.
ScheduleTimeline time_schedule(const PipelineSchedule& schedule, const StepCost& cost = unit_cost);

}  // namespace megatron
