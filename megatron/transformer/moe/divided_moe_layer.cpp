// MoELayer: its pass in parts.
#include <ATen/ATen.h>

#include "megatron/expert_parallel/all_to_all_route.h"
#include "megatron/transformer/moe/moe_layer.h"

namespace megatron {

class MoELayer::DividedPass final : public DividedFeedForward {
 public:
  DividedPass(const MoELayer& layer, const ForwardContext& context)
      : layer_(layer), context_(context) {}

  Dispatched dispatch(const at::Tensor& hidden_states) override {
    shape_ = hidden_states.sizes().vec();
    const Routing routing = layer_.router_->forward(hidden_states, context_);
    route_.emplace(routing.map, layer_.row_padding(routing), *layer_.options_.groups);
    return {.rows = route_->rows_to_experts(layer_.tokens_of(hidden_states, routing)),
            .probs = route_->probs_to_experts(routing.probs)};
  }

  RowExchange exchange() const override { return route_->exchange(); }

  Computed at_experts(const Dispatched& received, const at::Tensor& hidden_states) override {
    const at::Tensor probs = layer_.config_.moe_apply_probs_on_input
                                 ? at::Tensor()
                                 : route_->probs_at_experts(received.probs);
    const WeightGradientDelay delay = [this](std::function<void()> compute) {
      weight_gradients_.push_back(std::move(compute));
    };
    const at::Tensor output = layer_.experts_->forward(
        route_->rows_at_experts(received.rows), probs, route_->counts(),
        layer_.config_.delay_wgrad_compute ? delay : WeightGradientDelay());
    return {.rows = route_->rows_to_tokens(output),
            .shared = has_shared_experts() ? layer_.shared_experts_->forward(hidden_states)
                                           : at::Tensor()};
  }

  bool has_shared_experts() const override { return layer_.shared_experts_ != nullptr; }

  OutputAndBias combine(const Computed& returned) override {
    const at::Tensor routed = route_->combined(returned.rows).view(shape_);
    return {returned.shared.defined() ? routed + returned.shared : routed, at::Tensor()};
  }

  void compute_weight_gradients() override {
    for (const std::function<void()>& compute : std::exchange(weight_gradients_, {})) compute();
  }

 private:
  const MoELayer& layer_;
  ForwardContext context_;
  std::vector<int64_t> shape_;
  std::optional<AllToAllRoute> route_;
  std::vector<std::function<void()>> weight_gradients_;  // delayed
};

std::unique_ptr<DividedFeedForward> MoELayer::divided(const ForwardContext& context) const {
  if (!config_.overlap_moe_expert_parallel_comm) return nullptr;
  check_layout(context);
  return std::make_unique<DividedPass>(*this, context);
}

}  // namespace megatron
