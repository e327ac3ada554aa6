#include "megatron/pipeline/combined_run.h"

#include <ATen/record_function.h>
#include <fmt/format.h>

namespace megatron {

CombinedRun::Pass CombinedRun::begin_forward(const PipelineStep& step, const at::Tensor& input) {
  const auto& [model_input, context] = microbatches_[step.microbatch];
  GPTModel& model = *chunks_[step.chunk];
  if (input.defined()) model.set_input_tensor(input);
  Pass pass{.plan = model.build_schedule_plan(model_input, context), .loss = {}};
  if (model.stage().post_process && options_.on_output) {
    pass.loss = ScheduleNode([this, microbatch = step.microbatch](const Tensors& outputs) {
      return Tensors{options_.on_output(microbatch, outputs[0])};
    });
  }
  return pass;
}

CombinedResults CombinedRun::run(const CombinedPasses& passes) {
  const auto key = [](const PipelineStep& step) { return std::pair{step.microbatch, step.chunk}; };
  const auto name = [](const char* kind, const std::optional<PipelineStep>& step) {
    return step ? fmt::format("{} of micro-batch {}", kind, step->microbatch) : std::string();
  };
  RECORD_USER_SCOPE(fmt::format("{}{}{}", name("forward", passes.forward),
                                passes.forward && passes.backward ? ", " : "",
                                name("backward", passes.backward)));
  Pass next, last;
  at::Tensor grad;
  ChunkScheduleHooks hooks;
  CombinedResults results;
  if (passes.backward) {
    last = std::move(passes_.extract(key(*passes.backward)).mapped());
    grad = last.loss.backward({passes.output_grad})[0];
    hooks.post_backward = [&](const at::Tensor& input_grad) { results.input_grad = input_grad; };
  }
  if (passes.forward) next = begin_forward(*passes.forward, passes.input);
  const at::Tensor output =
      TransformerModelChunkSchedulePlan::run(next.plan.get(), last.plan.get(), grad, hooks);
  if (!passes.forward) return results;
  results.output = next.loss.forward({output})[0];
  passes_.emplace(key(*passes.forward), std::move(next));
  return results;
}

}  // namespace megatron
