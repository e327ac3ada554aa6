#include "megatron/pipeline/schedule.h"

#include <algorithm>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using Kind = PipelineStep::Kind;

struct Pass {
  int64_t microbatch;
  int chunk;
};

// `warmup` forward passes, then alternately one forward and one backward, `combined` or not, then the
// remaining backward passes. Backward has the order of `passes` too, with the chunks reversed.
std::vector<PipelineStep> alternate(const std::vector<Pass>& passes, int chunks, int64_t warmup,
                                    bool combined = false) {
  const auto count = std::ssize(passes);
  std::vector<PipelineStep> steps;
  const auto forward = [&](int64_t i) {
    steps.push_back({Kind::forward, passes[i].microbatch, passes[i].chunk});
  };
  const auto backward = [&](int64_t i) {
    steps.push_back({Kind::backward, passes[i].microbatch, chunks - 1 - passes[i].chunk});
  };
  for (int64_t i = 0; i < warmup; ++i) forward(i);
  for (int64_t i = warmup; i < count; ++i) {
    forward(i);
    steps.back().with_next = combined;
    backward(i - warmup);
  }
  for (int64_t i = count - warmup; i < count; ++i) backward(i);
  return steps;
}

std::vector<int64_t> group_sizes(int stages, int64_t microbatches, std::optional<int64_t> given) {
  const int64_t group = std::max<int64_t>(given.value_or(stages), 1);
  const int64_t rest = microbatches % group;
  check(!given || (*given >= stages && group <= microbatches && (rest == 0 || rest >= stages)),
        "Expected groups of {} to {} micro-batches with a remainder of 0 or at least {}, but got "
        "groups of {} and {} micro-batches; groups of {} would work",
        stages, microbatches, stages, given.value_or(group), microbatches,
        std::max<int64_t>(stages, microbatches));
  std::vector<int64_t> sizes(microbatches / group, group);
  if (rest > 0 && rest < stages && !sizes.empty()) {
    sizes.back() += rest;
  } else if (rest > 0) {
    sizes.push_back(rest);
  }
  return sizes;
}

std::vector<PipelineStep> interleave(int stage, int stages, int chunks, int64_t microbatches,
                                     std::optional<int64_t> group, bool combined) {
  const std::vector<int64_t> sizes = group_sizes(stages, microbatches, group);
  std::vector<Pass> passes;
  int64_t first = 0;
  for (const int64_t size : sizes) {
    for (int chunk = 0; chunk < chunks; ++chunk) {
      for (int64_t i = first; i < first + size; ++i) passes.push_back({i, chunk});
    }
    first += size;
  }
  const int64_t warmup =
      (stages - stage - 1) * 2 + (chunks - 1) * std::ranges::max(sizes) + (combined ? 1 : 0);
  return alternate(passes, chunks, std::min<int64_t>(warmup, std::ssize(passes)), combined);
}

// The same micro-batch on the next (`direction` +1) or previous (-1) virtual stage.
std::optional<PlacedStep> neighbour(const PlacedStep& placed, int stages, int chunks,
                                    int direction) {
  const int virtual_stage = placed.step.chunk * stages + placed.stage + direction;
  if (virtual_stage < 0 || virtual_stage >= stages * chunks) return std::nullopt;
  return PlacedStep{virtual_stage % stages,
                    {placed.step.kind, placed.step.microbatch, virtual_stage / stages}};
}

}  // namespace

std::vector<PipelineStep> no_pipelining(int64_t microbatches) {
  return one_forward_one_backward(/*stage=*/0, /*stages=*/1, microbatches);
}

std::vector<PipelineStep> one_forward_one_backward(int stage, int stages, int64_t microbatches) {
  std::vector<Pass> passes;
  for (int64_t i = 0; i < microbatches; ++i) passes.push_back({i, /*chunk=*/0});
  return alternate(passes, /*chunks=*/1, std::min<int64_t>(microbatches, stages - stage - 1));
}

std::vector<PipelineStep> interleaved_one_forward_one_backward(int stage, int stages, int chunks,
                                                               int64_t microbatches,
                                                               std::optional<int64_t> group) {
  return interleave(stage, stages, chunks, microbatches, group, /*combined=*/false);
}

std::vector<PipelineStep> combined_one_forward_one_backward(int stage, int stages, int chunks,
                                                            int64_t microbatches,
                                                            std::optional<int64_t> group) {
  return interleave(stage, stages, chunks, microbatches, group, /*combined=*/true);
}

std::vector<PipelineStep> forward_only(std::vector<PipelineStep> steps) {
  std::erase_if(steps, [](const PipelineStep& step) { return step.kind == Kind::backward; });
  for (PipelineStep& step : steps) step.with_next = false;
  return steps;
}

PipelineSchedule make_schedule(const ScheduleRequest& request) {
  check(request.stages >= 1 && request.chunks >= 1 && request.microbatches >= 1,
        "Expected at least one stage, chunk and micro-batch, but got {}, {} and {}", request.stages,
        request.chunks, request.microbatches);
  check(request.stages > 1 || request.chunks == 1,
        "Expected at least 2 stages with {} chunks each, but got one; 2 stages or 1 chunk work",
        request.chunks);
  PipelineSchedule schedule;
  for (int stage = 0; stage < request.stages; ++stage) {
    std::vector<PipelineStep> steps =
        request.combined ? combined_one_forward_one_backward(
                               stage, request.stages, request.chunks, request.microbatches,
                               request.chunks == 1 ? std::nullopt : request.group)
        : request.chunks == 1
            ? one_forward_one_backward(stage, request.stages, request.microbatches)
            : interleaved_one_forward_one_backward(stage, request.stages, request.chunks,
                                                   request.microbatches, request.group);
    schedule.push_back(request.forward_only ? forward_only(std::move(steps)) : std::move(steps));
  }
  return schedule;
}

std::optional<PlacedStep> source_of(const PlacedStep& placed, int stages, int chunks) {
  return neighbour(placed, stages, chunks, placed.step.kind == Kind::forward ? -1 : +1);
}

std::optional<PlacedStep> destination_of(const PlacedStep& placed, int stages, int chunks) {
  return neighbour(placed, stages, chunks, placed.step.kind == Kind::forward ? +1 : -1);
}

int64_t sends_in_flight(const PipelineSchedule& schedule) {
  if (chunks_of(schedule) == 1) return 1;
  int64_t run = 0, longest = 1;
  int chunk = -1;
  for (const PipelineStep& step : schedule.front()) {
    if (step.kind == Kind::backward) continue;
    run = step.chunk == chunk ? run + 1 : 1;
    chunk = step.chunk;
    longest = std::max(longest, run);
  }
  return longest;
}

int chunks_of(const PipelineSchedule& schedule) {
  int chunks = 1;
  for (const auto& steps : schedule) {
    for (const PipelineStep& step : steps) chunks = std::max(chunks, step.chunk + 1);
  }
  return chunks;
}

}  // namespace megatron
