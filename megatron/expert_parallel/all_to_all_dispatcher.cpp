#include "megatron/expert_parallel/all_to_all_dispatcher.h"

#include <ATen/ATen.h>

#include "megatron/expert_parallel/all_to_all_route.h"
#include "megatron/ops/grouped/permute.h"
#include "megatron/parallel/all_to_all.h"

namespace megatron {
namespace {

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
             const at::Tensor& routing_map, const RowPadding& padding,
             const ProcessGroupCollection& groups, const std::function<void()>& meanwhile)
      : route_(routing_map, padding, groups) {
    PendingAllToAll rows = send(route_.rows_to_experts(hidden_states));
    PendingAllToAll weights = send(route_.probs_to_experts(probs));
    if (meanwhile) meanwhile();
    hidden_states_ = route_.rows_at_experts(rows.wait());
    probs_ = route_.probs_at_experts(weights.wait());
    counts_ = route_.counts();
  }

  at::Tensor combine(const at::Tensor& expert_output) const override {
    const RowExchange& exchange = route_.exchange();
    return route_.combined(all_to_all(route_.rows_to_tokens(expert_output), *exchange.group,
                                      exchange.sent, exchange.received));
  }

 private:
  PendingAllToAll send(const at::Tensor& rows) const {
    const RowExchange& exchange = route_.exchange();
    return {rows, *exchange.group, exchange.received, exchange.sent};
  }

  AllToAllRoute route_;
};

}  // namespace

AllToAllDispatcher::AllToAllDispatcher(const ProcessGroupCollection& groups) : groups_(groups) {}

std::unique_ptr<TokenDispatch> AllToAllDispatcher::dispatch(
    const at::Tensor& hidden_states, const at::Tensor& probs, const at::Tensor& routing_map,
    const RowPadding& padding, const std::function<void()>& meanwhile) const {
  if (groups_.tp_ep->size() == 1) {
    if (meanwhile) meanwhile();
    return std::make_unique<LocalTokens>(hidden_states, probs, routing_map, padding);
  }
  return std::make_unique<SentTokens>(hidden_states, probs, routing_map, padding, groups_,
                                      meanwhile);
}

}  // namespace megatron
