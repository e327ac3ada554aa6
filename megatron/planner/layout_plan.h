// What a layout would look like: who holds what, and what its schedule lets it reach. Nothing is
// allocated and no rank is started.
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
  int64_t parameters = 0;  // of a rank, copies of tied embeddings included
  double flops_share = 0;  // of the model's arithmetic; the stages' sum is 1
  TrainingMemory memory;   // of a rank, between steps
};

struct LayoutPlan {
  ParallelSizes sizes;
  int world_size = 1;
  int chunks = 1;
  int64_t microbatches = 1;
  int64_t group = 1;  // micro-batches in a row through a chunk
  std::vector<StagePlan> stages;
  ScheduleTimeline timeline;        // every chunk takes as long as the others
  ScheduleTimeline split_timeline;  // chunks take as long as their arithmetic, backward twice that
};

// `options` must have been validated for `world_size` ranks.
LayoutPlan plan_layout(const Options& options, int world_size);

// As text for a terminal, its lines ended.
std::string format_layout_plan(const LayoutPlan& plan, const Options& options);

// As a picture (schedule_picture.h).
std::string draw_layout_plan(const LayoutPlan& plan);

}  // namespace megatron
