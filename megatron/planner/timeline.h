// A schedule against a clock: when each stage would run each step, if messages took no time.
#pragma once

#include <functional>

#include "megatron/pipeline/schedule.h"

namespace megatron {

struct TimedStep {
  PipelineStep step;
  double start = 0, end = 0;
};

struct ScheduleTimeline {
  std::vector<std::vector<TimedStep>> stages;  // in the order of each stage's list
  double duration = 0;                         // until the last stage is done
  double work = 0;                             // of all steps of all stages

  // The share of the stages' time in which they compute: what the schedule lets a pipeline reach at
  // most.
  double efficiency() const { return work / (duration * double(stages.size())); }
  double bubble() const { return 1 - efficiency(); }
};

using StepCost = std::function<double(int stage, const PipelineStep& step)>;

// A chunk's forward takes 1, its backward 2.
double unit_cost(int stage, const PipelineStep& step);

// A step starts when the one before it in its list, and the one that it takes in from another
// stage, are done. Throws Error where all stages wait for each other.
ScheduleTimeline time_schedule(const PipelineSchedule& schedule, const StepCost& cost = unit_cost);

}  // namespace megatron
