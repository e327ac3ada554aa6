#include "megatron/expert_parallel/all_gather_dispatcher.h"

#include <ATen/ATen.h>

#include "megatron/ops/grouped/permute.h"
#include "megatron/parallel/collectives.h"

namespace megatron {
namespace {

class GatheredTokens final : public TokenDispatch {
 public:
  // All tensors are of the local experts and of the tokens of all ranks.
  GatheredTokens(const at::Tensor& hidden_states, const at::Tensor& probs,
                 const at::Tensor& routing_map, const RowPadding& padding, ProcessGroupPtr tp_ep)
      : permutation_(permutation_from_map(routing_map, padding.permutation_options())),
        tp_ep_(std::move(tp_ep)) {
    hidden_states_ = permute(hidden_states, permutation_);
    probs_ = permute_probs(probs, permutation_);
    counts_ = permutation_.counts;
  }

  at::Tensor combine(const at::Tensor& expert_output) const override {
    return reduce_scatter_to_sequence_parallel_region(unpermute(expert_output, permutation_),
                                                      *tp_ep_);
  }

 private:
  ExpertPermutation permutation_;
  ProcessGroupPtr tp_ep_;
};

}  // namespace

AllGatherDispatcher::AllGatherDispatcher(int64_t experts, const ProcessGroupCollection& groups)
    : local_experts_(experts / groups.ep->size()),
      first_expert_(groups.ep->rank() * local_experts_),
      tp_ep_(groups.tp_ep) {}

std::unique_ptr<TokenDispatch> AllGatherDispatcher::dispatch(
    const at::Tensor& hidden_states, const at::Tensor& probs, const at::Tensor& routing_map,
    const RowPadding& padding, const std::function<void()>& meanwhile) const {
  if (meanwhile) meanwhile();
  const auto local = [this](const at::Tensor& of_experts) {
    return of_experts.narrow(1, first_expert_, local_experts_).contiguous();
  };
  const at::Tensor map = tp_ep_->all_gather(routing_map.to(at::kByte)).to(at::kBool);
  return std::make_unique<GatheredTokens>(
      gather_from_sequence_parallel_region(hidden_states, *tp_ep_),
      local(gather_from_sequence_parallel_region(probs, *tp_ep_)), local(map), padding, tp_ep_);
}

}  // namespace megatron
