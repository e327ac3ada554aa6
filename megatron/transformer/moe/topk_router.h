// The router of a layer with experts (Megatron's TopKRouter): which experts each token is sent to,
// with which probabilities, and the losses that balance the load. Shape legend: t tokens of this rank
// (position-major), e experts, h hidden.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/transformer/build_arguments.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/moe/moe_pass.h"

namespace megatron {

struct Routing {
  at::Tensor probs;         // [t, e] in fp32 or wider; 0 where the map is false
  at::Tensor map;           // [t, e] bool: the experts that get the token
  int64_t padded_rows = 0;  // rows that each expert is padded to; 0: none
};

class TopKRouter : public MegatronModule {
 public:
  explicit TopKRouter(const BuildArguments& arguments);

  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism). In training, the losses are
  // attached to the probabilities, and the context's MoePass gets their values, the load and the
  // plan. Collective over the ranks that hold the micro-batch.
  Routing forward(const at::Tensor& hidden_states, const ForwardContext& context) const;

  // The name of the layer's router, such as decoder.layers.3.mlp.router.
  std::string name() const;

  // [e] fp32, not trained; null without moe_router_enable_expert_bias. And the tokens that the
  // experts of all passes since the last update kept, on this rank: [e] whole numbers in fp64.
  const ParameterPtr& expert_bias() const { return expert_bias_; }
  const ParameterPtr& local_tokens_per_expert() const { return local_tokens_per_expert_; }
  // Moves the bias towards experts with less than the mean load, and clears the counts. Collective
  // over all ranks of the pipeline stage.
  void update_expert_bias() const;

 private:
  at::Tensor logits_of(const at::Tensor& hidden_states, const ForwardContext& context) const;
  RoutingPlan make_plan(const at::Tensor& logits, const ForwardContext& context,
                        bool is_training) const;
  at::Tensor chosen_experts(const at::Tensor& logits, const ForwardContext& context,
                            bool is_training) const;
  at::Tensor balanced_choice(const ForwardContext& context) const;
  void drop(RoutingPlan& plan, const at::Tensor& logits, const ForwardContext& context) const;
  void record(const RoutingPlan& plan, const ForwardContext& context) const;

  MoeConfig config_;
  LayerOptions options_;
  int64_t layer_number_;
  ParameterPtr weight_, bias_;  // [e, h], [e]; the bias may be null
  ParameterPtr expert_bias_, local_tokens_per_expert_;
};

}  // namespace megatron
