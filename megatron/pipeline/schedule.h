// Pipeline schedules as data: for each stage the ordered list of forward and backward passes, by
// micro-batch and chunk. The executor runs the lists, tests check them, the planner simulates and
// draws them. With C chunks on each of P stages, chunk c of stage r is virtual stage c * P + r.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace megatron {

struct PipelineStep {
  enum class Kind { forward, backward };
  Kind kind = Kind::forward;
  int64_t microbatch = 0;
  int chunk = 0;
  // A forward step that runs interleaved with the backward step behind it in the list: both start
  // when both have their inputs (combined 1F1B).
  bool with_next = false;

  bool operator==(const PipelineStep&) const = default;
};

// A single stage: forward, then backward, of each micro-batch.
std::vector<PipelineStep> no_pipelining(int64_t microbatches);

// 1F1B (Narayanan et al., 2021): min(microbatches, stages - stage - 1) warm-up forward passes, then
// alternately one forward and one backward pass, then the remaining backward passes.
std::vector<PipelineStep> one_forward_one_backward(int stage, int stages, int64_t microbatches);

// Interleaved 1F1B (Megatron's schedule with virtual stages): `group` consecutive micro-batches
// pass through a chunk, then through the next one. `group` is Megatron's
// microbatch_group_size_per_vp_stage, by default the number of stages. Backward visits the chunks
// in reverse. A group needs at least as many micro-batches as stages, so a smaller remainder joins
// the last group and any number of micro-batches works. Throws Error, as Megatron does, for an
// explicit `group` that is not between stages and microbatches or that leaves such a remainder.
std::vector<PipelineStep> interleaved_one_forward_one_backward(int stage, int stages, int chunks,
                                                               int64_t microbatches,
                                                               std::optional<int64_t> group = {});

// Combined 1F1B (Megatron's overlap_moe_expert_parallel_comm): 1F1B or interleaved 1F1B in which each
// forward pass behind the warm-up runs together with a backward pass, so that communication of one
// overlaps computation of the other. The two are of different micro-batches or chunks, which takes
// one more warm-up pass; and since a result arrives at the next stage only after both, stages are two
// passes apart as in interleaved 1F1B, also with one chunk.
std::vector<PipelineStep> combined_one_forward_one_backward(int stage, int stages, int chunks,
                                                            int64_t microbatches,
                                                            std::optional<int64_t> group = {});

// Only the forward passes of a list, for evaluation.
std::vector<PipelineStep> forward_only(std::vector<PipelineStep> steps);

// The lists by stage.
using PipelineSchedule = std::vector<std::vector<PipelineStep>>;

struct ScheduleRequest {
  int stages = 1, chunks = 1;
  int64_t microbatches = 1;
  std::optional<int64_t> group = {};
  bool forward_only = false;
  bool combined = false;
};
PipelineSchedule make_schedule(const ScheduleRequest& request);

// A step and the stage that runs it.
struct PlacedStep {
  int stage = 0;
  PipelineStep step;
  bool operator==(const PlacedStep&) const = default;
};

// The step that produces this one's input, and the one that consumes its result. Empty for the
// first and the last virtual stage, which embed tokens and compute losses.
std::optional<PlacedStep> source_of(const PlacedStep& placed, int stages, int chunks);
std::optional<PlacedStep> destination_of(const PlacedStep& placed, int stages, int chunks);

// Chunks per stage: one more than the largest chunk index.
int chunks_of(const PipelineSchedule& schedule);

// How many sends of one kind a stage may have in flight before it waits for the oldest: the longest
// run of micro-batches through one chunk, because the receiver posts the receive for the next chunk
// only after that run. 1 without virtual stages. With this limit no schedule of make_schedule
// deadlocks on a transport without message buffers.
int64_t sends_in_flight(const PipelineSchedule& schedule);

}  // namespace megatron
