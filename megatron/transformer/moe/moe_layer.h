// The module of a layer's MLP slot with experts (Megatron's MoELayer): router, dispatch, experts,
// the way back, and shared experts.
#pragma once

#include "megatron/expert_parallel/token_dispatcher.h"
#include "megatron/transformer/feed_forward.h"
#include "megatron/transformer/moe/grouped_experts.h"
#include "megatron/transformer/moe/shared_experts.h"
#include "megatron/transformer/moe/topk_router.h"

namespace megatron {

class MoELayer : public FeedForward {
 public:
  // Slots: router (TopKRouter), experts (SequentialMLP or TEGroupedMLP), and shared_experts
  // (SharedExpertMLP), which is empty without them.
  explicit MoELayer(const BuildArguments& arguments);

  // Collective over the ranks that share the experts. Throws Error in training with tensor
  // parallelism but without sequence parallelism: the ranks would route the same tokens twice.
  OutputAndBias forward(const at::Tensor& hidden_states,
                        const ForwardContext& context) const override;

  // With overlap_moe_expert_parallel_comm.
  std::unique_ptr<DividedFeedForward> divided(const ForwardContext& context) const override;

  const std::shared_ptr<TopKRouter>& router() const { return router_; }

 private:
  class DividedPass;

  void check_layout(const ForwardContext& context) const;
  // The tokens [t, h] to dispatch, and the padding of their rows.
  at::Tensor tokens_of(const at::Tensor& hidden_states, const Routing& routing) const;
  RowPadding row_padding(const Routing& routing) const;
  // The experts' output; calls `meanwhile` while the tokens are on their way.
  at::Tensor run(const at::Tensor& hidden_states, const ForwardContext& context,
                 const std::function<void()>& meanwhile = {}) const;

  MoeConfig config_;
  LayerOptions options_;
  bool recomputes_;
  std::shared_ptr<TopKRouter> router_;
  std::shared_ptr<GroupedExperts> experts_;
  std::shared_ptr<SharedExperts> shared_experts_;  // may be null
  std::unique_ptr<TokenDispatcher> dispatcher_;
};

}  // namespace megatron
