#include "megatron/expert_parallel/all_to_all_dispatcher.h"

#include <ATen/ATen.h>

#include "megatron/ops/grouped/permute.h"
#include "megatron/parallel/all_to_all.h"

namespace megatron {
namespace {

std::vector<int64_t> to_vector(const at::Tensor& integers) {
  const at::Tensor values = integers.contiguous();
  const auto* first = values.const_data_ptr<int64_t>();
  return {first, first + values.numel()};
}

// One rank holds all experts: nothing is sent.
class LocalTokens final : public TokenDispatch {
 public:
  LocalTokens(const at::Tensor& hidden_states, const at::Tensor& probs,
              const at::Tensor& routing_map, const RowPadding& padding)
      : permutation_(permutation_from_map(routing_map, padding.permutation_options())) {
    hidden_states_ = permute(hidden_states, permutation_);
    probs_ = permute_probs(probs, permutation_);
    counts_ = permutation_.counts;
  }

  at::Tensor combine(const at::Tensor& expert_output) const override {
    return unpermute(expert_output, permutation_);
  }

 private:
  ExpertPermutation permutation_;
};

class SentTokens final : public TokenDispatch {
 public:
  SentTokens(const at::Tensor& hidden_states, const at::Tensor& probs,
             const at::Tensor& routing_map, const RowPadding& padding, int64_t tp, int64_t ep,
             ProcessGroupPtr tp_ep, const std::function<void()>& meanwhile)
      : by_expert_(permutation_from_map(routing_map)), tp_(tp), tp_ep_(std::move(tp_ep)) {
    const int64_t ranks = tp * ep, local = by_expert_.experts / ep;
    // Rows for each rank and each of its experts. In the group, the tensor-parallel ranks of an
    // expert-parallel rank follow each other.
    const at::Tensor sent =
        by_expert_.counts.view({ep, 1, local}).expand({ep, tp, local}).reshape({ranks, local});
    const at::Tensor received = tp_ep_->all_to_all(sent);
    rows_by_ep_rank_ = to_vector(by_expert_.counts.view({ep, local}).sum(1));
    sent_ = to_vector(sent.sum(1));
    received_ = to_vector(received.sum(1));
    PendingAllToAll rows_on_their_way = send(permute(hidden_states, by_expert_));
    PendingAllToAll weights_on_their_way = send(permute_probs(probs, by_expert_));
    if (meanwhile) meanwhile();
    const at::Tensor rows = rows_on_their_way.wait(), weights = weights_on_their_way.wait();
    const at::Tensor expert_of_row =
        at::arange(local, at::kLong).repeat({ranks}).repeat_interleave(received.reshape(-1));
    at_experts_ =
        permutation_from_indices(expert_of_row.unsqueeze(1), local, padding.permutation_options());
    hidden_states_ = permute(rows, at_experts_);
    probs_ = permute_probs(weights.unsqueeze(1), at_experts_);
    counts_ = at_experts_.counts;
  }

  at::Tensor combine(const at::Tensor& expert_output) const override {
    const at::Tensor returned =
        all_to_all(unpermute(expert_output, at_experts_), *tp_ep_, sent_, received_);
    return unpermute(summed_copies(returned), by_expert_);
  }

 private:
  // Rows sorted by expert -> rows of this rank's experts, by the rank that they come from.
  PendingAllToAll send(const at::Tensor& rows) const {
    return {copied_to_tensor_parallel_ranks(rows), *tp_ep_, received_, sent_};
  }

  // The rows of each expert-parallel rank once for each of its tensor-parallel ranks.
  at::Tensor copied_to_tensor_parallel_ranks(const at::Tensor& rows) const {
    if (tp_ == 1) return rows;
    std::vector<at::Tensor> copies;
    for (const at::Tensor& part : rows.split_with_sizes(rows_by_ep_rank_)) {
      for (int64_t rank = 0; rank < tp_; ++rank) copies.push_back(part);
    }
    return at::cat(copies);
  }

  // The reverse: the sum over the tensor-parallel ranks, in their order, in fp32 or wider.
  at::Tensor summed_copies(const at::Tensor& rows) const {
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

  ExpertPermutation by_expert_, at_experts_;
  int64_t tp_;
  ProcessGroupPtr tp_ep_;
  std::vector<int64_t> rows_by_ep_rank_;  // before they are copied
  std::vector<int64_t> sent_, received_;  // rows by rank of the group
};

}  // namespace

AllToAllDispatcher::AllToAllDispatcher(const ProcessGroupCollection& groups)
    : tp_(groups.expt_tp->size()), ep_(groups.ep->size()), tp_ep_(groups.tp_ep) {}

std::unique_ptr<TokenDispatch> AllToAllDispatcher::dispatch(
    const at::Tensor& hidden_states, const at::Tensor& probs, const at::Tensor& routing_map,
    const RowPadding& padding, const std::function<void()>& meanwhile) const {
  if (tp_ep_->size() == 1) {
    if (meanwhile) meanwhile();
    return std::make_unique<LocalTokens>(hidden_states, probs, routing_map, padding);
  }
  return std::make_unique<SentTokens>(hidden_states, probs, routing_map, padding, tp_, ep_, tp_ep_,
                                      meanwhile);
}

}  // namespace megatron
