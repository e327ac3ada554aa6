// Pipeline schedules as data: which micro-batch a stage runs forward or backward through which of
// its chunks, in which order. The executor runs such lists, tests check them, plans time and draw
// them. With C chunks on each of P stages, chunk c of stage r is the virtual stage c * P + r.
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

  bool operator==(const PipelineStep&) const = default;
};

// One stage: forward and backward of each micro-batch in turn.
std::vector<PipelineStep> no_pipelining(int64_t microbatches);

// 1F1B (Narayanan et al., 2021): min(microbatches, stages - stage - 1) forward passes to fill the
// pipeline, then one forward and one backward in turn, then the backward passes that are left.
std::vector<PipelineStep> one_forward_one_backward(int stage, int stages, int64_t microbatches);

// The same with several chunks a stage (Megatron's interleaved schedule): `group` micro-batches
// (Megatron's microbatch_group_size_per_vp_stage; as many as stages where not given) pass through a
// chunk in a row, then through the next. Backward goes through the chunks the other way. Fewer than
// `stages` micro-batches that are left over join the last whole group, since a group as small as
// that cannot go round: so any number of micro-batches works. Throws Error for a given group that
// is not between stages and microbatches, or leaves such a rest, as Megatron does.
std::vector<PipelineStep> interleaved_one_forward_one_backward(int stage, int stages, int chunks,
                                                               int64_t microbatches,
                                                               std::optional<int64_t> group = {});

// The forward steps of a list, for evaluation.
std::vector<PipelineStep> forward_only(std::vector<PipelineStep> steps);

// The lists of all stages, by stage.
using PipelineSchedule = std::vector<std::vector<PipelineStep>>;

struct ScheduleRequest {
  int stages = 1, chunks = 1;
  int64_t microbatches = 1;
  std::optional<int64_t> group = {};
  bool forward_only = false;
};
PipelineSchedule make_schedule(const ScheduleRequest& request);

// A step and where it runs.
struct PlacedStep {
  int stage = 0;
  PipelineStep step;
  bool operator==(const PlacedStep&) const = default;
};

// The step whose result this one takes in, and the one that takes in its result; none at the ends,
// where tokens are embedded and losses made.
std::optional<PlacedStep> source_of(const PlacedStep& placed, int stages, int chunks);
std::optional<PlacedStep> destination_of(const PlacedStep& placed, int stages, int chunks);

// One more than the largest chunk in the lists.
int chunks_of(const PipelineSchedule& schedule);

// How many results of one kind a stage may have on their way before it has to wait for the oldest:
// the longest run of micro-batches through one chunk, since the stage that goes round with them
// asks for the next chunk's input only after it; 1 without virtual stages. With as many, no
// schedule of make_schedule comes to a stop over a transport that holds no messages.
int64_t sends_in_flight(const PipelineSchedule& schedule);

}  // namespace megatron
