// A linear layer whose output features are partitioned over the tensor-parallel group:
// Y_p = X W_p^T + b_p.
#pragma once

#include <optional>

#include "megatron/base/megatron_module.h"
#include "megatron/tensor_parallel/deferred_weight_gradients.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

struct ColumnParallelLinearArguments {
  int64_t input_size = 0;
  int64_t output_size = 0;  // global
  bool bias = true;
  double init_std = 0.02;
  int stride = 1;               // 2 if the output is [gate; up]
  bool gather_output = false;   // all-gathers the output to every rank
  bool skip_bias_add = false;   // the caller adds the bias (see bias())
  bool allocate_weight = true;  // false: forward is given the weight (tied embeddings)
  // If set, the weight gradients of up to this many backward passes (0: of all) are deferred to
  // compute_deferred_weight_gradients().
  std::optional<int64_t> weight_gradient_deferral_limit = {};
};

class ColumnParallelLinear : public MegatronModule {
 public:
  ColumnParallelLinear(const ColumnParallelLinearArguments& arguments, const LayerOptions& options);

  // input [s, b, input_size], or [s/tp, b, input_size] with sequence parallelism ->
  // [s, b, output_size/tp], or [s, b, output_size] with gather_output. `weight`, if not null, is
  // used instead of the layer's own weight (tied embeddings).
  at::Tensor forward(const at::Tensor& input, const ParameterPtr& weight = nullptr) const;

  // Overrides the layer's gather_output.
  at::Tensor forward(const at::Tensor& input, const ParameterPtr& weight, bool gather_output) const;

  // Accumulates deferred weight gradients into the main gradients. Collective over the group with
  // sequence parallelism.
  void compute_deferred_weight_gradients() const {
    if (deferred_) deferred_->compute();
  }

  const ParameterPtr& weight() const { return weight_; }
  // This rank's shard of the bias, or an undefined tensor.
  at::Tensor bias() const { return bias_ ? bias_->data : at::Tensor(); }

 private:
  LayerOptions options_;
  bool gather_output_, skip_bias_add_;
  ParameterPtr weight_, bias_;
  std::unique_ptr<DeferredWeightGradients> deferred_;  // null if nothing is deferred
};

}  // namespace megatron
