#include "megatron/transformer/moe/moe_pass.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace megatron {

void MoeStep::Layer::add_loss(const std::string& name, const at::Tensor& value) {
  const at::Tensor number = value.detach().to(at::kCPU, at::kDouble);
  for (auto& [known, sum] : losses) {
    if (known == name) {
      sum += number;
      return;
    }
  }
  losses.emplace_back(name, number.clone());
}

MoeStep::Layer& MoeStep::layer(const std::string& router, int64_t experts) {
  const auto found = std::ranges::find(layers_, router, &Layer::router);
  if (found != layers_.end()) return *found;
  Layer& layer = layers_.emplace_back();
  layer.router = router;
  layer.load = at::zeros({experts}, at::kLong);
  layer.dropped = at::zeros({1}, at::kLong);
  layer.global_choices = at::zeros({experts}, at::kDouble);
  return layer;
}

std::shared_ptr<const RoutingPlan> MoePass::find(const std::string& router, int64_t depth) const {
  const auto found = plans_.find({router, depth});
  return found == plans_.end() ? nullptr : found->second;
}

void MoePass::store(const std::string& router, int64_t depth,
                    std::shared_ptr<const RoutingPlan> plan) {
  plans_[{router, depth}] = std::move(plan);
}

}  // namespace megatron
