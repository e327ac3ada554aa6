// A linear layer whose output features are partitioned over the tensor-parallel group:
// Y_p = X W_p^T + b_p.
#pragma once

#include <optional>

#include "megatron/tensor_parallel/deferred_weight_gradients.h"
#include "megatron/tensor_parallel/layer_options.h"
#include "megatron/tensor_parallel/parallel_linear.h"

namespace megatron {

struct ColumnParallelLinearArguments {
  int64_t input_size = 0;
  int64_t output_size = 0;  // global
  bool bias = true;
  double init_std = 0.02;
  int stride = 1;                        // 2 if the output is [gate; up]
  bool gather_output = false;            // all-gathers the output to every rank
  bool skip_bias_add = false;            // the caller adds the bias (see bias())
  bool allocate_weight = true;           // false: forward is given the weight (tied embeddings)
  std::string tp_comm_buffer_name = {};  // of the layer's overlaps in tp_comm_overlap_cfg
  // If set, the weight gradients of up to this many backward passes (0: of all) are deferred to
  // compute_deferred_weight_gradients().
  std::optional<int64_t> weight_gradient_deferral_limit = {};
};

// Weight [output_size/tp, input_size] and bias [output_size/tp], where the arguments ask for them.
struct ColumnParallelParameters {
  ColumnParallelParameters(const ColumnParallelLinearArguments& arguments,
                           const LayerOptions& options);

  ParameterPtr weight, bias;
};

class ColumnParallelLinear : public ColumnLinear {
 public:
  ColumnParallelLinear(const ColumnParallelLinearArguments& arguments, const LayerOptions& options);

  // input [s, b, input_size], or [s/tp, b, input_size] with sequence parallelism ->
  // [s, b, output_size/tp], or [s, b, output_size] with gather_output.
  at::Tensor forward(const at::Tensor& input) const override;

  // `weight`, if not null, is used instead of the layer's own weight (tied embeddings), and
  // `gather_output` instead of the layer's.
  at::Tensor forward(const at::Tensor& input, const ParameterPtr& weight, bool gather_output) const;

  // Accumulates deferred weight gradients into the main gradients. Collective over the group with
  // sequence parallelism.
  void compute_deferred_weight_gradients() const {
    if (deferred_) deferred_->compute();
  }

  const ParameterPtr& weight() const override { return weight_; }
  const LinearOverlap& overlap() const { return overlap_; }
  at::Tensor bias() const override { return bias_ ? options_.cast(bias_->data) : at::Tensor(); }

 private:
  LayerOptions options_;
  LinearOverlap overlap_;
  bool gather_output_, skip_bias_add_;
  ParameterPtr weight_, bias_;
  std::unique_ptr<DeferredWeightGradients> deferred_;  // null if nothing is deferred
};

}  // namespace megatron
