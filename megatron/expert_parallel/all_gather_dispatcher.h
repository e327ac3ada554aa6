// All ranks get all tokens and keep those of their experts: two collectives of equal shapes, which
// pays for few ranks. The ranks must have equal numbers of tokens.
#pragma once

#include "megatron/expert_parallel/token_dispatcher.h"

namespace megatron {

class AllGatherDispatcher final : public TokenDispatcher {
 public:
  AllGatherDispatcher(int64_t experts, const ProcessGroupCollection& groups);
  std::unique_ptr<TokenDispatch> dispatch(const at::Tensor& hidden_states, const at::Tensor& probs,
                                          const at::Tensor& routing_map, const RowPadding& padding,
                                          const std::function<void()>& meanwhile) const override;

 private:
  int64_t local_experts_, first_expert_;
  ProcessGroupPtr tp_ep_;
};

}  // namespace megatron
