#include "megatron/pipeline/pipeline_forward.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/pipeline/executor.h"

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
    if (options.after_forward) options.after_forward(index, chunk, result);
    return result;
  };
  run_schedule(
      make_schedule({.stages = pp.size(),
                     .chunks = static_cast<int>(chunks.size()),
                     .microbatches = std::ssize(microbatches),
                     .group = options.with_backward ? config.microbatch_group_size_per_vp_stage
                                                    : std::nullopt,
                     .forward_only = !options.with_backward}),
      pp, {empty_input, forward},
      {.overlap = config.overlap_p2p_comm, .deallocate = config.deallocate_pipeline_outputs});
}

}  // namespace megatron
