// The way of a micro-batch's tokens to the ranks of their experts and back, as steps between which
// its two exchanges of rows run. Shape legend: t tokens of this rank, e experts of the layer, h hidden.
#pragma once

#include "megatron/expert_parallel/token_dispatcher.h"
#include "megatron/parallel/row_exchange.h"

namespace megatron {

class AllToAllRoute {
 public:
  // routing_map [t, e] bool. Exchanges the numbers of rows: collective over tp_ep.
  AllToAllRoute(const at::Tensor& routing_map, const RowPadding& padding,
                const ProcessGroupCollection& groups);

  // Which rows the first exchange sends. The second one reverses it.
  const RowExchange& exchange() const { return exchange_; }

  // 1. hidden_states [t, h] and probs [t, e] -> what the first exchange sends.
  at::Tensor rows_to_experts(const at::Tensor& hidden_states) const;
  at::Tensor probs_to_experts(const at::Tensor& probs) const;
  // 2. What came -> rows sorted by local expert, with padding rows, and their probabilities.
  at::Tensor rows_at_experts(const at::Tensor& received) const;
  at::Tensor probs_at_experts(const at::Tensor& received) const;
  const at::Tensor& counts() const { return at_experts_.counts; }
  // 3. The experts' outputs for those rows -> what the second exchange sends.
  at::Tensor rows_to_tokens(const at::Tensor& expert_output) const;
  // 4. What came back -> [t, h]: each token's sum over its experts.
  at::Tensor combined(const at::Tensor& returned) const;

 private:
  at::Tensor copied_to_tensor_parallel_ranks(const at::Tensor& rows) const;
  at::Tensor summed_copies(const at::Tensor& rows) const;

  ExpertPermutation by_expert_, at_experts_;
  int64_t tp_;
  RowExchange exchange_;
  std::vector<int64_t> rows_by_ep_rank_;  // before they are copied
};

}  // namespace megatron
