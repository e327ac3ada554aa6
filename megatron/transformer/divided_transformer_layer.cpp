// TransformerLayer: its pass in parts.
#include "megatron/base/error.h"
#include "megatron/transformer/joined_graph.h"
#include "megatron/transformer/transformer_layer.h"

namespace megatron {

class TransformerLayer::DividedPass final : public DividedLayerPass {
 public:
  DividedPass(const TransformerLayer& layer, std::unique_ptr<DividedFeedForward> mlp,
              const ForwardContext& context)
      : layer_(layer), mlp_(std::move(mlp)), context_(context) {}

  Tensors before_dispatch(const at::Tensor& hidden_states, const LayerInput& input) override {
    return layer_.with_hooks([&] {
      const at::Tensor attended = layer_.attention_branch(hidden_states, input, context_);
      norm_.emplace(normalize(layer_.pre_mlp_layernorm_, attended, layer_.recomputes_norms_));
      const at::Tensor& normed = norm_->outputs()[0];
      const auto [rows, probs] = mlp_->dispatch(normed);
      return joined_graph({rows, probs, layer_.residual_after_norm_ ? normed : attended,
                           mlp_->has_shared_experts() ? normed : at::Tensor()});
    });
  }

  RowExchange exchange() const override { return mlp_->exchange(); }

  Tensors at_experts(const Tensors& received) override {
    return layer_.with_hooks([&] {
      const auto [rows, shared] =
          mlp_->at_experts({.rows = received[0], .probs = received[1]}, received[2]);
      return joined_graph({rows, shared});
    });
  }

  at::Tensor after_combine(const Tensors& returned) override {
    const auto run = [&] {
      const at::Tensor& residual = returned[1];
      const OutputAndBias combined = mlp_->combine({.rows = returned[0], .shared = returned[2]});
      const at::Tensor output =
          layer_.add_to_residual(combined, layer_.post_mlp_layernorm_, residual,
                                 /*normed=*/residual, DropoutSite::mlp_output, context_);
      norm_->discard_outputs(/*result=*/combined.output);
      return output;
    };
    // Only the norm has parameters here.
    return layer_.post_mlp_layernorm_ ? layer_.with_hooks(run) : run();
  }

  void compute_weight_gradients() override { mlp_->compute_weight_gradients(); }

 private:
  const TransformerLayer& layer_;
  std::unique_ptr<DividedFeedForward> mlp_;
  ForwardContext context_;
  std::optional<Recomputation> norm_;  // before the experts
};

std::unique_ptr<DividedLayerPass> TransformerLayer::divided(const ForwardContext& context) const {
  std::unique_ptr<DividedFeedForward> mlp = mlp_->divided(context);
  if (!mlp) return nullptr;
  check(!is_parallel_,
        "Expected a layer without use_parallel_residual for a pass in parts, but got one with it; "
        "overlap_moe_expert_parallel_comm=false works");
  return std::make_unique<DividedPass>(*this, std::move(mlp), context);
}

}  // namespace megatron
