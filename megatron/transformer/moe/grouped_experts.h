// The experts of a layer on this rank: stacked weights, computed in one grouped operator. Checkpoints
// hold them as one tensor for all experts (moe_grouped_gemm; Megatron's TEGroupedMLP), or one for
// each (SequentialMLP); both read each other. Shape legend: e experts of this rank, f width of an
// expert, h hidden.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/ops/grouped/grouped_mlp.h"
#include "megatron/transformer/build_arguments.h"

namespace megatron {

// Takes computations of weight gradients that backward leaves to a later time.
using WeightGradientDelay = std::function<void(std::function<void()> compute)>;

class GroupedExperts : public MegatronModule {
 public:
  explicit GroupedExperts(const BuildArguments& arguments);

  // hidden_states [rows, h], sorted by expert; probs [rows], which multiply the activation's output,
  // or undefined; counts [e] -> [rows, h]. With tensor parallelism of the experts, a partial sum.
  // `delay`: empty, or for backward.
  at::Tensor forward(const at::Tensor& hidden_states, const at::Tensor& probs,
                     const at::Tensor& counts, const WeightGradientDelay& delay = {}) const;

 private:
  ParameterPtr make_weight(const std::string& name, std::vector<int64_t> shape, int partition_dim,
                           int stride, double std);
  ParameterPtr make_bias(const std::string& name, int64_t width, int partition_dim, int stride);

  LayerOptions options_;
  GroupedMLPOptions mlp_;
  int64_t experts_;
  // [e, w_p, h], [e, w_p], [e, h, f_p], [e, h], with w = 2f if gated; the biases may be null.
  ParameterPtr fc1_weight_, fc1_bias_, fc2_weight_, fc2_bias_;
};

}  // namespace megatron
