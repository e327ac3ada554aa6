#include "megatron/transformer/moe/routing.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"

namespace megatron {
namespace {

constexpr double kSinkhornTolerance = 1e-4, kSinkhornEpsilon = 1e-8;

// [.., n] -> the indices of the k largest, [.., k]. Of equal values the first is larger.
at::Tensor largest(const at::Tensor& values, int64_t k) {
  return std::get<1>(at::sort(values, /*stable=*/true, /*dim=*/-1, /*descending=*/true))
      .narrow(-1, 0, k);
}

}  // namespace

at::Tensor choose_experts(const at::Tensor& scores, const ExpertChoice& choice) {
  const at::Tensor values = scores.detach();
  if (choice.num_groups == 0) return largest(values, choice.topk).contiguous();
  const at::Tensor grouped = values.unflatten(1, {choice.num_groups, -1});
  const int64_t counted = choice.topk / choice.group_topk;
  const at::Tensor best = grouped.gather(-1, largest(grouped, counted)).sum(-1);
  const at::Tensor kept = at::zeros_like(best, best.options().dtype(at::kBool))
                              .scatter_(1, largest(best, choice.group_topk), true);
  const at::Tensor masked = grouped.masked_fill(kept.unsqueeze(-1).logical_not(),
                                                -std::numeric_limits<double>::infinity());
  return largest(masked.flatten(1), choice.topk).contiguous();
}

at::Tensor routing_map_of(const at::Tensor& chosen, int64_t experts) {
  return at::zeros({chosen.size(0), experts}, chosen.options().dtype(at::kBool))
      .scatter_(1, chosen, true);
}

at::Tensor sinkhorn(const at::Tensor& logits, const at::Tensor& valid) {
  at::Tensor cost = logits.detach().to(accumulation_dtype(logits.scalar_type())).exp();
  double tokens = double(cost.size(0));
  if (valid.defined()) {
    cost = cost * valid.unsqueeze(1);
    tokens = std::max(valid.sum().item<double>(), 1.0);
  }
  const double experts = double(cost.size(1));
  at::Tensor by_expert = at::ones({cost.size(1)}, cost.options()), by_token;
  for (double change = 1e9; change > kSinkhornTolerance;) {
    by_token = 1 / tokens / ((by_expert * cost).sum(1) + kSinkhornEpsilon);
    if (valid.defined()) by_token = by_token * valid;
    const at::Tensor next =
        1 / experts / ((by_token.unsqueeze(1) * cost).sum(0) + kSinkhornEpsilon);
    change = (by_expert - next).abs().mean().item<double>();
    by_expert = next;
  }
  return by_expert * cost * by_token.unsqueeze(1);
}

int64_t expert_capacity(int64_t tokens, int64_t topk, int64_t experts, double factor) {
  return static_cast<int64_t>(std::ceil(double(tokens * topk) / double(experts) * factor));
}

at::Tensor within_capacity(const at::Tensor& chosen, const at::Tensor& probs, int64_t capacity,
                           MoeTokenDropPolicy policy) {
  if (capacity >= chosen.size(0)) return chosen;
  const at::Tensor by_expert = chosen.t();
  const at::Tensor order =
      policy == MoeTokenDropPolicy::position
          ? largest(by_expert.to(at::kInt), capacity)
          : largest(probs.detach().t().masked_fill(by_expert.logical_not(), -1), capacity);
  const at::Tensor best = at::zeros_like(by_expert).scatter_(1, order, true);
  return best.t().logical_and(chosen);
}

}  // namespace megatron
