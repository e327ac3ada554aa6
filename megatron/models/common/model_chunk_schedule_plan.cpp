#include "megatron/models/common/model_chunk_schedule_plan.h"

#include "megatron/base/error.h"

namespace megatron {

at::Tensor TransformerModelChunkSchedulePlan::run(TransformerModelChunkSchedulePlan* forward,
                                                  TransformerModelChunkSchedulePlan* backward,
                                                  const at::Tensor& output_grad,
                                                  const ChunkScheduleHooks& hooks) {
  using LayerPlan = TransformerLayerSchedulePlan;
  check(forward != backward,
        "Expected the plans of two micro-batches, or one plan and null, but got {}",
        forward == nullptr ? "null twice" : "the same plan twice");
  check((backward != nullptr) == output_grad.defined(),
        "Expected a backward plan together with the gradient of its output, but got {}",
        output_grad.defined() ? "a gradient only" : "a plan only");
  const auto call = [](const auto& hook, const auto&... arguments) {
    if (hook) hook(arguments...);
  };

  at::Tensor hidden_states, grad = output_grad;
  if (forward != nullptr) {
    call(hooks.pre_forward);
    hidden_states = forward->pre_process_.forward({})[0];
  }
  if (backward != nullptr) {
    call(hooks.pre_backward);
    grad = backward->post_process_.backward({grad})[0];
  }

  // Forward runs from the first layer, backward from the last.
  const int64_t forward_layers = forward != nullptr ? forward->num_layers() : 0;
  const int64_t backward_layers = backward != nullptr ? backward->num_layers() : 0;
  for (int64_t i = 0; i < std::max(forward_layers, backward_layers); ++i) {
    LayerPlan* const next = i < forward_layers ? &forward->layers_[i] : nullptr;
    LayerPlan* const last =
        i < backward_layers ? &backward->layers_[backward_layers - 1 - i] : nullptr;
    std::tie(hidden_states, grad) = LayerPlan::run(next, last, hidden_states, grad);
  }

  if (forward != nullptr) {
    call(hooks.post_forward, hidden_states);
    hidden_states = forward->post_process_.forward({hidden_states})[0];
  }
  if (backward != nullptr) {
    call(hooks.post_backward, grad);
    backward->pre_process_.backward({grad});
  }
  return hidden_states;
}

}  // namespace megatron
