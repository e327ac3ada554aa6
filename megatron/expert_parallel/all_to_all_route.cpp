#include "megatron/expert_parallel/all_to_all_route.h"

#include <ATen/ATen.h>

#include "megatron/ops/grouped/permute.h"

namespace megatron {
namespace {

std::vector<int64_t> to_vector(const at::Tensor& integers) {
  const at::Tensor values = integers.contiguous();
  const auto* first = values.const_data_ptr<int64_t>();
  return {first, first + values.numel()};
}

}  // namespace

AllToAllRoute::AllToAllRoute(const at::Tensor& routing_map, const RowPadding& padding,
                             const ProcessGroupCollection& groups)
    : by_expert_(permutation_from_map(routing_map)), tp_(groups.expt_tp->size()) {
  const int64_t ep = groups.ep->size(), ranks = tp_ * ep, local = by_expert_.experts / ep;
  // Rows for each rank and each of its experts. In the group, the tensor-parallel ranks of an
  // expert-parallel rank follow each other.
  const at::Tensor sent =
      by_expert_.counts.view({ep, 1, local}).expand({ep, tp_, local}).reshape({ranks, local});
  const at::Tensor received = groups.tp_ep->all_to_all(sent);
  rows_by_ep_rank_ = to_vector(by_expert_.counts.view({ep, local}).sum(1));
  exchange_ = {.group = groups.tp_ep,
               .received = to_vector(received.sum(1)),
               .sent = to_vector(sent.sum(1))};
  const at::Tensor expert_of_row =
      at::arange(local, at::kLong).repeat({ranks}).repeat_interleave(received.reshape(-1));
  at_experts_ =
      permutation_from_indices(expert_of_row.unsqueeze(1), local, padding.permutation_options());
}

at::Tensor AllToAllRoute::rows_to_experts(const at::Tensor& hidden_states) const {
  return copied_to_tensor_parallel_ranks(permute(hidden_states, by_expert_));
}

at::Tensor AllToAllRoute::probs_to_experts(const at::Tensor& probs) const {
  return copied_to_tensor_parallel_ranks(permute_probs(probs, by_expert_));
}

at::Tensor AllToAllRoute::rows_at_experts(const at::Tensor& received) const {
  return permute(received, at_experts_);
}

at::Tensor AllToAllRoute::probs_at_experts(const at::Tensor& received) const {
  return permute_probs(received.unsqueeze(1), at_experts_);
}

at::Tensor AllToAllRoute::rows_to_tokens(const at::Tensor& expert_output) const {
  return unpermute(expert_output, at_experts_);
}

at::Tensor AllToAllRoute::combined(const at::Tensor& returned) const {
  return unpermute(summed_copies(returned), by_expert_);
}

// The rows of each expert-parallel rank once for each of its tensor-parallel ranks.
at::Tensor AllToAllRoute::copied_to_tensor_parallel_ranks(const at::Tensor& rows) const {
  if (tp_ == 1) return rows;
  std::vector<at::Tensor> copies;
  for (const at::Tensor& part : rows.split_with_sizes(rows_by_ep_rank_)) {
    for (int64_t rank = 0; rank < tp_; ++rank) copies.push_back(part);
  }
  return at::cat(copies);
}

// The reverse: the sum over the tensor-parallel ranks, in their order, in fp32 or wider.
at::Tensor AllToAllRoute::summed_copies(const at::Tensor& rows) const {
  if (tp_ == 1) return rows;
  const bool is_wide = rows.scalar_type() == at::kFloat || rows.scalar_type() == at::kDouble;
  std::vector<at::Tensor> sums;
  int64_t start = 0;
  for (const int64_t count : rows_by_ep_rank_) {
    at::Tensor sum = rows.narrow(0, start, count);
    if (!is_wide) sum = sum.to(at::kFloat);
    for (int64_t rank = 1; rank < tp_; ++rank)
      sum = sum + rows.narrow(0, start + rank * count, count);
    start += tp_ * count;
    sums.push_back(sum.to(rows.scalar_type()));
  }
  return at::cat(sums);
}

}  // namespace megatron
