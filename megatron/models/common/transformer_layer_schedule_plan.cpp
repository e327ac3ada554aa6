#include "megatron/models/common/transformer_layer_schedule_plan.h"

#include <ATen/record_function.h>
#include <fmt/format.h>

namespace megatron {
namespace {

// A range of the trace: the computation of a node.
std::string range_name(const char* what, int64_t layer_number, const char* direction) {
  return fmt::format("{} of layer {}, {}", what, layer_number, direction);
}

}  // namespace

TransformerLayerSchedulePlan TransformerLayerSchedulePlan::of(
    const BaseTransformerLayer& layer, int64_t layer_number,
    std::shared_ptr<const SchedulePass> pass) {
  TransformerLayerSchedulePlan plan;
  plan.layer_number_ = layer_number;
  const std::shared_ptr<DividedLayerPass> parts = layer.divided(pass->context);
  if (!parts) {
    plan.pre_dispatch_computation = ScheduleNode([&layer, pass](const Tensors& inputs) {
      return Tensors{layer.forward_attention(inputs[0], pass->layer_input, pass->context)};
    });
    plan.mlp = ScheduleNode([&layer, pass](const Tensors& inputs) {
      return Tensors{layer.forward_mlp(inputs[0], pass->context)};
    });
    return plan;
  }
  plan.pre_dispatch_computation = ScheduleNode([parts, pass](const Tensors& inputs) {
    return parts->before_dispatch(inputs[0], pass->layer_input);
  });
  plan.moe_dispatch = ExchangeNode(fmt::format("dispatch all-to-all of layer {}", layer_number),
                                   [parts] { return parts->exchange(); });
  plan.mlp = ScheduleNode([parts](const Tensors& inputs) { return parts->at_experts(inputs); });
  plan.moe_combine = ExchangeNode(fmt::format("combine all-to-all of layer {}", layer_number),
                                  [parts] { return parts->exchange().reversed(); });
  plan.post_combine_computation = ScheduleNode(
      [parts](const Tensors& inputs) { return Tensors{parts->after_combine(inputs)}; });
  plan.weight_gradients = [parts] { parts->compute_weight_gradients(); };
  return plan;
}

void TransformerLayerSchedulePlan::forward_to_dispatch(const at::Tensor& input) {
  const Tensors outputs = [&] {
    RECORD_USER_SCOPE(range_name("attention", layer_number_, "forward"));
    return pre_dispatch_computation.forward({input});
  }();
  if (moe_dispatch.is_empty()) return moe_dispatch.begin_forward(outputs);
  residual_ = outputs[2];
  shared_ = outputs[3];
  moe_dispatch.begin_forward({outputs[0], outputs[1]});
}

void TransformerLayerSchedulePlan::forward_to_combine() {
  Tensors inputs = moe_dispatch.end_forward();
  if (!moe_dispatch.is_empty()) inputs.push_back(std::exchange(shared_, {}));
  const Tensors outputs = [&] {
    RECORD_USER_SCOPE(range_name("mlp", layer_number_, "forward"));
    return mlp.forward(inputs);
  }();
  if (moe_combine.is_empty()) return moe_combine.begin_forward(outputs);
  shared_ = outputs[1];
  moe_combine.begin_forward({outputs[0]});
}

at::Tensor TransformerLayerSchedulePlan::forward_to_end() {
  Tensors inputs = moe_combine.end_forward();
  if (moe_combine.is_empty()) return inputs[0];
  inputs.push_back(std::exchange(residual_, {}));
  inputs.push_back(std::exchange(shared_, {}));
  return post_combine_computation.forward(inputs)[0];
}

void TransformerLayerSchedulePlan::backward_to_combine(const at::Tensor& grad) {
  const Tensors grads = post_combine_computation.backward({grad});
  if (moe_combine.is_empty()) return moe_combine.begin_backward(grads);
  residual_ = grads[1];
  shared_ = grads[2];
  moe_combine.begin_backward({grads[0]});
}

void TransformerLayerSchedulePlan::backward_to_dispatch() {
  Tensors grads = moe_combine.end_backward();
  if (!moe_combine.is_empty()) grads.push_back(std::exchange(shared_, {}));
  const Tensors input_grads = [&] {
    RECORD_USER_SCOPE(range_name("mlp", layer_number_, "backward"));
    return mlp.backward(grads);
  }();
  if (moe_dispatch.is_empty()) return moe_dispatch.begin_backward(input_grads);
  shared_ = input_grads[2];
  moe_dispatch.begin_backward({input_grads[0], input_grads[1]});
  RECORD_USER_SCOPE(range_name("weight gradients", layer_number_, "backward"));
  weight_gradients();
}

at::Tensor TransformerLayerSchedulePlan::backward_to_end() {
  Tensors grads = moe_dispatch.end_backward();
  if (!moe_dispatch.is_empty()) {
    grads.push_back(std::exchange(residual_, {}));
    grads.push_back(std::exchange(shared_, {}));
  }
  RECORD_USER_SCOPE(range_name("attention", layer_number_, "backward"));
  return pre_dispatch_computation.backward(grads)[0];
}

std::pair<at::Tensor, at::Tensor> TransformerLayerSchedulePlan::run(
    TransformerLayerSchedulePlan* forward, TransformerLayerSchedulePlan* backward,
    const at::Tensor& input, const at::Tensor& grad) {
  at::Tensor output = input, input_grad = grad;
  if (backward != nullptr) backward->backward_to_combine(grad);
  if (forward != nullptr) forward->forward_to_dispatch(input);
  if (backward != nullptr) backward->backward_to_dispatch();
  if (forward != nullptr) forward->forward_to_combine();
  if (backward != nullptr) input_grad = backward->backward_to_end();
  if (forward != nullptr) output = forward->forward_to_end();
  return {output, input_grad};
}

}  // namespace megatron
