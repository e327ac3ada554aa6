// The shared experts of a layer (Megatron's SharedExpertMLP): one MLP of their total width, which
// every token passes, with or without a sigmoid gate.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/ops/activation.h"
#include "megatron/tensor_parallel/parallel_linear.h"
#include "megatron/transformer/build_arguments.h"

namespace megatron {

class SharedExperts : public MegatronModule {
 public:
  // Slots: linear_fc1, linear_fc2.
  explicit SharedExperts(const BuildArguments& arguments);

  // [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  at::Tensor forward(const at::Tensor& hidden_states) const;

 private:
  at::Tensor mlp(const at::Tensor& hidden_states) const;

  LayerOptions options_;
  ActivationOptions activation_;
  bool recomputes_;
  std::shared_ptr<ColumnLinear> linear_fc1_;
  std::shared_ptr<RowLinear> linear_fc2_;
  ParameterPtr gate_weight_;  // [1, h]; null without a gate
};

}  // namespace megatron
