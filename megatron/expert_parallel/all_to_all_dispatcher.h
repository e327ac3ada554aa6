// Every token goes to the ranks of its experts only. With tensor parallelism of the experts a token
// goes to each rank that holds a part of the expert, in the same collective, and the partial outputs
// are summed where the token came from.
#pragma once

#include "megatron/expert_parallel/token_dispatcher.h"

namespace megatron {

class AllToAllDispatcher final : public TokenDispatcher {
 public:
  explicit AllToAllDispatcher(const ProcessGroupCollection& groups);
  std::unique_ptr<TokenDispatch> dispatch(const at::Tensor& hidden_states, const at::Tensor& probs,
                                          const at::Tensor& routing_map, const RowPadding& padding,
                                          const std::function<void()>& meanwhile) const override;

 private:
  ProcessGroupCollection groups_;
};

}  // namespace megatron
