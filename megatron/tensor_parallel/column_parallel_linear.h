// A linear layer whose output features are split over the tensor-parallel group: Y_p = X W_p^T +
// b_p.
#pragma once

#include <optional>

#include "megatron/base/megatron_module.h"
#include "megatron/tensor_parallel/deferred_weight_gradients.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

struct ColumnParallelLinearArguments {
  int64_t input_size = 0;
  int64_t output_size = 0;  // of the whole group
  bool bias = true;
  double init_std = 0.02;
  int stride = 1;               // 2 where the output is [gate; up]
  bool gather_output = false;   // the whole output on every rank
  bool skip_bias_add = false;   // the caller fuses the bias (see bias())
  bool allocate_weight = true;  // false: the caller gives the weight at forward (tied embedding)
  // Weight gradients of so many backward passes (0: of all) wait for
  // compute_deferred_weight_gradients; none where not given.
  std::optional<int64_t> weight_gradient_deferral_limit = {};
};

class ColumnParallelLinear : public MegatronModule {
 public:
  ColumnParallelLinear(const ColumnParallelLinearArguments& arguments, const LayerOptions& options);

  // input [s, b, input_size], or [s/tp, b, input_size] with sequence parallelism -> [s, b,
  // output_size/tp] (whole with gather_output). `weight` replaces the layer's own, for tied
  // embeddings.
  at::Tensor forward(const at::Tensor& input, const ParameterPtr& weight = nullptr) const;

  // The same, gathered or not as said here.
  at::Tensor forward(const at::Tensor& input, const ParameterPtr& weight, bool gather_output) const;

  // Adds what was deferred to the main gradients. Collective over the group with sequence
  // parallelism.
  void compute_deferred_weight_gradients() const {
    if (deferred_) deferred_->compute();
  }

  const ParameterPtr& weight() const { return weight_; }
  // This rank's part of the bias, or an undefined tensor.
  at::Tensor bias() const { return bias_ ? bias_->data : at::Tensor(); }

 private:
  LayerOptions options_;
  bool gather_output_, skip_bias_add_;
  ParameterPtr weight_, bias_;
  std::unique_ptr<DeferredWeightGradients> deferred_;  // null where nothing is deferred
};

}  // namespace megatron
