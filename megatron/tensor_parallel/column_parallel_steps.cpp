#include "megatron/tensor_parallel/column_parallel_steps.h"

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/tensor_parallel/all_gather_matmul.h"

namespace megatron {

ColumnParallelProduct column_parallel_product(const at::Tensor& x, const at::Tensor& weight,
                                              const at::Tensor& bias,
                                              const ColumnParallelCommunication& communication) {
  const ProcessGroup& tp = *communication.tp;
  if (communication.overlaps_forward()) {
    AllGatherMatmul result =
        all_gather_matmul(x, weight.t(), bias, tp, communication.overlap.fprop.num_splits);
    return {std::move(result.gathered), std::move(result.output)};
  }
  const at::Tensor gathered = communication.shards_sequence() ? tp.all_gather(x) : x;
  return {gathered, linear_forward(gathered, weight, bias)};
}

ColumnParallelInputGradient::ColumnParallelInputGradient(
    const at::Tensor& grad_y, const at::Tensor& weight,
    const ColumnParallelCommunication& communication) {
  const ProcessGroup& tp = *communication.tp;
  if (communication.overlaps_input_gradient()) {
    overlapped_.emplace(grad_y, weight, tp, communication.overlap.dgrad.num_splits);
    return;
  }
  const at::Tensor partial = linear_input_gradient(grad_y, weight);
  if (!communication.shards_sequence()) {
    gradient_ = partial;
    reduction_ = tp.iall_reduce(gradient_);
    return;
  }
  std::vector<int64_t> shape = partial.sizes().vec();
  shape[0] /= tp.size();
  gradient_ = at::empty(shape, partial.options());
  reduction_ = tp.ireduce_scatter(gradient_, partial);
}

at::Tensor ColumnParallelInputGradient::wait() {
  if (overlapped_) return overlapped_->wait();
  reduction_->wait();
  return gradient_;
}

GatheredShards::GatheredShards(const at::Tensor& shard, const ProcessGroup* tp) : gathered_(shard) {
  if (tp == nullptr) return;
  std::vector<int64_t> shape = shard.sizes().vec();
  shape[0] *= tp->size();
  gathered_ = at::empty(shape, shard.options());
  all_gather_ = tp->iall_gather(gathered_, shard.contiguous());
}

const at::Tensor& GatheredShards::wait() {
  if (all_gather_) std::exchange(all_gather_, nullptr)->wait();
  return gathered_;
}

at::Tensor column_parallel_weight_gradient(const at::Tensor& grad_y, const at::Tensor& input,
                                           at::Tensor& main_grad) {
  if (!main_grad.defined()) return at::mm(flatten_rows(grad_y).t(), flatten_rows(input));
  accumulate_weight_gradient(main_grad, flatten_rows(grad_y), flatten_rows(input));
  return {};
}

}  // namespace megatron
