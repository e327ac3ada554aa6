// The plan of a parallel layout: what each pipeline stage holds, its share of the FLOPs, its
// memory, and the efficiency that the schedule allows. Allocates no weights and starts no ranks.
#pragma once

#include <string>
#include <vector>

#include "megatron/config/model/pipeline_layout.h"
#include "megatron/config/options/options.h"
#include "megatron/parallel/rank_grid.h"
#include "megatron/planner/timeline.h"
#include "megatron/planner/training_memory.h"

namespace megatron {

struct StagePlan {
  int first_rank = 0, last_rank = 0;
  std::string holds;
  int64_t parameters = 0;  // per rank, including copies of tied embeddings
  double flops_share = 0;  // of the model's FLOPs; the stages sum to 1
  TrainingMemory memory;   // per rank, between steps
};

struct LayoutPlan {
  ParallelSizes sizes;
  int world_size = 1;
  int chunks = 1;
  bool combined = false;  // combined 1F1B
  int64_t microbatches = 1;
  std::vector<int64_t> batch_sizes;  // of a ramp, ascending; the plan is for the last
  int64_t ramp_steps = 0;            // steps before the last size is reached
  int64_t group = 1;                 // consecutive micro-batches through one model chunk
  std::vector<StagePlan> stages;
  std::vector<std::string> description;  // with --verbose: the builder's lines about all chunks
  ScheduleTimeline timeline;             // all model chunks take equally long
  ScheduleTimeline split_timeline;       // time in proportion to each chunk's FLOPs
};

// `options` must have been validated for `world_size` ranks.
LayoutPlan plan_layout(const Options& options, int world_size);

// The plan as text for a terminal.
std::string format_layout_plan(const LayoutPlan& plan, const Options& options);

// The schedule as an SVG picture; see schedule_picture.h.
std::string draw_layout_plan(const LayoutPlan& plan);

}  // namespace megatron
