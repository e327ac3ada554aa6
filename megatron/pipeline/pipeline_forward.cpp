#include "megatron/pipeline/pipeline_forward.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/pipeline/combined_run.h"

namespace megatron {

void run_pipeline_forward(const GPTModelChunks& chunks,
                          const std::vector<PipelineMicroBatch>& microbatches,
                          const PipelineForwardOptions& options) {
  check(!microbatches.empty(), "Expected at least one micro-batch, but got none");
  const at::AutoGradMode grad_mode(options.with_backward);
  const ProcessGroup& pp = *chunks.front()->groups().pp;
  const PipelineConfig& config = chunks.front()->config().transformer.pipeline;

  const auto empty_input = [&](int64_t index, int chunk) {
    const auto& [input, context] = microbatches[index];
    const GPTModel& model = *chunks[chunk];
    // The hidden states of multi-token prediction travel only where its losses are computed.
    const bool with_mtp = options.with_backward || input.mtp_record != nullptr;
    return at::empty(
        model.input_shape(context.positions.size(0), context.sample_ordinals.size(0), with_mtp),
        model.activation_options());
  };
  const auto forward = [&](int64_t index, int chunk, const at::Tensor& received) {
    RECORD_USER_SCOPE(fmt::format("forward of micro-batch {}", index));
    const auto& [input, context] = microbatches[index];
    GPTModel& model = *chunks[chunk];
    if (received.defined()) model.set_input_tensor(received);
    at::Tensor result = model.forward(input, context);
    if (model.stage().post_process && options.on_output) result = options.on_output(index, result);
    return result;
  };
  StageFunctions functions{
      .empty_input = empty_input, .forward = forward, .before_backward = options.before_backward};
  const TransformerConfig& transformer = chunks.front()->config().transformer;
  const bool combined = options.with_backward && transformer.moe.overlap_moe_expert_parallel_comm;
  CombinedRun combined_run(chunks, microbatches, options);
  if (combined) {
    functions.combined = [&](const CombinedPasses& passes) { return combined_run.run(passes); };
  }
  run_schedule(
      make_schedule({.stages = pp.size(),
                     .chunks = static_cast<int>(chunks.size()),
                     .microbatches = std::ssize(microbatches),
                     .group = options.with_backward ? config.microbatch_group_size_per_vp_stage
                                                    : std::nullopt,
                     .forward_only = !options.with_backward,
                     .combined = combined}),
      pp, functions,
      {.overlap = config.overlap_p2p_comm, .deallocate = config.deallocate_pipeline_outputs});
}

}  // namespace megatron
