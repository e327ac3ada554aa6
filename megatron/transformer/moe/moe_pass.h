// What the routers of a training step know of it and record in it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

// A loss of a router on the scores s [t, e] of its tokens: coefficient x sum of s x weights.
struct RouterLoss {
  std::string name;
  double coefficient = 0;
  at::Tensor weights;  // [t, e], or [1, e] for all tokens
};

// A router's decisions for the tokens of one pass. Recomputation takes them again.
struct RoutingPlan {
  at::Tensor chosen;                     // [t, e] bool: by the scores
  at::Tensor wanted;                     // [t, e] bool: of these, without padding tokens
  at::Tensor kept;                       // [t, e] bool: of these, without what exceeds the capacity
  int64_t capacity = 0;                  // most tokens of an expert; 0: no limit
  int64_t microbatches_of_capacity = 1;  // micro-batches whose tokens reach one expert together
  std::vector<RouterLoss> losses;
  double z_loss_weight = 0;  // of each valid token's squared log-sum; 0: no z-loss
};

// The routers of one rank in a training step.
class MoeStep {
 public:
  struct Layer {
    std::string router;  // its name, such as decoder.layers.3.mlp.router
    int64_t topk = 0;
    // Sums over the micro-batches of this rank's part of each loss, without its coefficient.
    std::vector<std::pair<std::string, at::Tensor>> losses;
    at::Tensor load;     // [e] int64: tokens of this rank that chose each expert
    at::Tensor dropped;  // [1] int64: choices that exceeded the capacity
    // Of all micro-batches so far, over all ranks (global_aux_loss): choices [e] and valid tokens.
    at::Tensor global_choices;  // fp64
    double global_tokens = 0, global_microbatches = 0;

    void add_loss(const std::string& name, const at::Tensor& value);
  };

  Layer& layer(const std::string& router, int64_t experts);
  const std::vector<Layer>& layers() const { return layers_; }

 private:
  std::vector<Layer> layers_;  // in the order of their first pass
};

// The pass of one micro-batch. ForwardContext carries it.
class MoePass {
 public:
  // `loss_weight`: the gradient of each auxiliary loss.
  MoePass(std::shared_ptr<MoeStep> step, double loss_weight)
      : step_(std::move(step)), loss_weight_(loss_weight) {}

  MoeStep& step() const { return *step_; }
  double loss_weight() const { return loss_weight_; }

  // Called with each router's probabilities and map, [t, e]; may be empty.
  std::function<void(const std::string& router, const at::Tensor& probs, const at::Tensor& map)>
      on_routing;

  // Gives a router's choice, [t, k] int64, instead of its scores; may be empty.
  std::function<at::Tensor(const std::string& router, int64_t depth)> replay;

  using Plans = std::map<std::pair<std::string, int64_t>, std::shared_ptr<const RoutingPlan>>;
  const Plans& plans() const { return plans_; }
  // The plan of a router, by its name and the depth at which it runs; null: it has none yet.
  std::shared_ptr<const RoutingPlan> find(const std::string& router, int64_t depth) const;
  void store(const std::string& router, int64_t depth, std::shared_ptr<const RoutingPlan> plan);

 private:
  std::shared_ptr<MoeStep> step_;
  double loss_weight_;
  Plans plans_;
};

}  // namespace megatron
