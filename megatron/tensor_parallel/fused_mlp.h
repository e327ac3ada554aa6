// A feed-forward block as one operator (Transformer Engine's op fuser): norm, linear_fc1, bias and
// activation, linear_fc2, with their communication.
//
// One autograd node keeps its input, the statistics of the input's rows and the output of
// linear_fc1. Neither the normalised input nor the output of the activation is kept: backward
// computes both again in passes that it makes anyway. Forward runs the whole block on some rows at a
// time, so that what lies between the two products stays in the caches.
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/config/model/tp_comm_overlap.h"
#include "megatron/ops/activation.h"
#include "megatron/ops/norm_linear.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

struct FusedMlpParameters {
  ParameterPtr norm_weight, norm_bias;  // [h]; norm_bias may be null
  ParameterPtr fc1_weight, fc1_bias;    // [f_p, h] ([2 f_p, h] if gated), [f_p]; may have no bias
  ParameterPtr fc2_weight;              // [h, f_p]
};

struct FusedMlpOptions {
  NormLinearOptions norm;
  ActivationOptions activation;
  const ProcessGroup* tp = nullptr;
  bool sequence_parallel = false, tp_comm_overlap = false;  // as in LayerOptions
  LinearOverlap fc1_overlap = LinearOverlap::of_column_parallel();
  LinearOverlap fc2_overlap = LinearOverlap::of_row_parallel();
};

// x [s, b, h], or [s/tp, b, h] with sequence parallelism -> the same shape, in the weights' dtype:
// activation(norm(x) fc1_weight^T + fc1_bias) fc2_weight^T, summed over the ranks.
//
// Weight gradients are accumulated into main_grad where that is defined, as in linear(). Backward
// reduces the gradient of the norm's output over the ranks while it multiplies both weight
// gradients. The group must outlive the graph.
at::Tensor fused_mlp(const at::Tensor& x, const FusedMlpParameters& parameters,
                     const FusedMlpOptions& options);

}  // namespace megatron
