// The steps of column-parallel layers with their communication, without autograd, for the layers'
// autograd functions.
#pragma once

#include <memory>
#include <optional>

#include <ATen/core/Tensor.h>

#include "megatron/config/model/tp_comm_overlap.h"
#include "megatron/parallel/process_group.h"
#include "megatron/tensor_parallel/deferred_weight_gradients.h"
#include "megatron/tensor_parallel/matmul_reduce_scatter.h"

namespace megatron {

// The options are those of LayerOptions.
struct ColumnParallelCommunication {
  const ProcessGroup* tp = nullptr;
  bool sequence_parallel = false;
  bool all_gather_input_in_backward = false;
  bool tp_comm_overlap = false;
  LinearOverlap overlap = LinearOverlap::of_column_parallel();  // with tp_comm_overlap
  // Where weight gradients are deferred to, if main_grad is defined; may be null.
  DeferredWeightGradients* deferred = nullptr;

  bool shards_sequence() const { return sequence_parallel && tp->size() > 1; }
  bool overlaps_forward() const {
    return shards_sequence() && tp_comm_overlap &&
           overlap.fprop.method == TpOverlapMethod::ring_exchange;
  }
  bool overlaps_input_gradient() const {
    return shards_sequence() && tp_comm_overlap &&
           overlap.dgrad.method == TpOverlapMethod::pipeline;
  }
};

struct ColumnParallelProduct {
  at::Tensor input;   // [s, b, in], gathered where ranks hold shards of the sequence
  at::Tensor output;  // [s, b, out_p] = input weight^T (+ bias)
};

// x [s, b, in], or [s/tp, b, in] where ranks hold shards of the sequence; weight [out_p, in]; bias
// [out_p] or undefined.
ColumnParallelProduct column_parallel_product(const at::Tensor& x, const at::Tensor& weight,
                                              const at::Tensor& bias,
                                              const ColumnParallelCommunication& communication);

// x's gradient grad_y weight, with its reduction over the ranks in flight.
class ColumnParallelInputGradient {
 public:
  ColumnParallelInputGradient(const at::Tensor& grad_y, const at::Tensor& weight,
                              const ColumnParallelCommunication& communication);
  at::Tensor wait();

 private:
  at::Tensor gradient_;
  std::shared_ptr<Work> reduction_;
  std::optional<MatmulReduceScatter> overlapped_;
};

// The shards of all ranks, with their all-gather in flight; without a group, the shard itself.
class GatheredShards {
 public:
  GatheredShards(const at::Tensor& shard, const ProcessGroup* tp);
  const at::Tensor& wait();

 private:
  at::Tensor gathered_;
  std::shared_ptr<Work> all_gather_;
};

// grad_y^T input, added to main_grad if that is defined (then returns an undefined tensor).
at::Tensor column_parallel_weight_gradient(const at::Tensor& grad_y, const at::Tensor& input,
                                           at::Tensor& main_grad);

}  // namespace megatron
