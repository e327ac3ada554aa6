#include "megatron/models/common/transformer_layer_schedule_plan.h"

namespace megatron {

TransformerLayerSchedulePlan TransformerLayerSchedulePlan::dense(
    const BaseTransformerLayer& layer, std::shared_ptr<const SchedulePass> pass) {
  TransformerLayerSchedulePlan plan;
  plan.pre_dispatch_computation = ScheduleNode([&layer, pass](const at::Tensor& hidden_states) {
    return layer.forward_attention(hidden_states, pass->layer_input, pass->context);
  });
  plan.mlp = ScheduleNode([&layer, pass](const at::Tensor& hidden_states) {
    return layer.forward_mlp(hidden_states, pass->context);
  });
  return plan;
}

std::pair<at::Tensor, at::Tensor> TransformerLayerSchedulePlan::run(
    TransformerLayerSchedulePlan* forward, TransformerLayerSchedulePlan* backward, at::Tensor input,
    at::Tensor grad) {
  using Node = ScheduleNode TransformerLayerSchedulePlan::*;
  const auto step_forward = [&](Node node) {
    if (forward != nullptr) input = (forward->*node).forward(input);
  };
  const auto step_backward = [&](Node node) {
    if (backward != nullptr) grad = (backward->*node).backward(grad);
  };
  using Plan = TransformerLayerSchedulePlan;
  step_backward(&Plan::mtp_post_process);
  step_backward(&Plan::moe_combine);
  step_forward(&Plan::pre_dispatch_computation);
  step_backward(&Plan::mlp);
  step_forward(&Plan::moe_dispatch);
  step_backward(&Plan::moe_dispatch);
  step_forward(&Plan::mlp);
  step_forward(&Plan::moe_combine);
  step_backward(&Plan::pre_dispatch_computation);
  step_forward(&Plan::mtp_post_process);
  return {input, grad};
}

}  // namespace megatron
