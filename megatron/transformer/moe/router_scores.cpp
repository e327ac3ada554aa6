#include "megatron/transformer/moe/router_scores.h"

#include <limits>

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr double kSumEpsilon = 1e-20;

// Sigmoid or the root of softplus: each expert's score by itself.
at::Tensor independent_scores(const at::Tensor& logits, MoeRouterScoreFunction function) {
  switch (function) {
    case MoeRouterScoreFunction::sigmoid:
      return logits.sigmoid();
    case MoeRouterScoreFunction::sqrtsoftplus:
      return at::softplus(logits, /*beta=*/1, /*threshold=*/20).sqrt();
    case MoeRouterScoreFunction::softmax:
      break;
  }
  fail("Expected a score function of each expert by itself, but got softmax");
}

at::Tensor widened(const at::Tensor& logits) {
  return logits.to(accumulation_dtype(logits.scalar_type()));
}

at::Tensor over_row_sum(const at::Tensor& scores) {
  return scores / (scores.sum(-1, /*keepdim=*/true) + kSumEpsilon);
}

at::Tensor unscaled_probabilities(const at::Tensor& logits, const at::Tensor& chosen,
                                  const MoeConfig& config) {
  const at::Tensor wide = widened(logits);
  if (config.balances_by("sinkhorn")) {
    const at::Tensor scores = config.moe_router_topk == 1 ? wide.sigmoid() : wide.softmax(-1);
    return scores * chosen;
  }
  if (config.moe_router_score_function != MoeRouterScoreFunction::softmax) {
    const at::Tensor scores = independent_scores(wide, config.moe_router_score_function) * chosen;
    return config.moe_router_topk > 1 ? over_row_sum(scores) : scores;
  }
  if (config.moe_router_pre_softmax) return wide.softmax(-1) * chosen;
  return wide.masked_fill(chosen.logical_not(), -std::numeric_limits<double>::infinity())
      .softmax(-1);
}

}  // namespace

at::Tensor choice_scores(const at::Tensor& logits, const MoeConfig& config) {
  const at::Tensor wide = widened(logits.detach());
  if (config.moe_router_score_function != MoeRouterScoreFunction::softmax)
    return independent_scores(wide, config.moe_router_score_function);
  // A bias is added to scores in [0, 1]; without one the logits have the same order.
  const bool compares_probabilities =
      config.moe_router_pre_softmax || config.moe_router_enable_expert_bias;
  return compares_probabilities ? wide.softmax(-1) : wide;
}

at::Tensor expert_probabilities(const at::Tensor& logits, const at::Tensor& chosen,
                                const MoeConfig& config) {
  const at::Tensor probabilities = unscaled_probabilities(logits, chosen, config);
  const double scale = config.moe_router_topk_scaling_factor.value_or(1);
  return scale == 1 ? probabilities : probabilities * scale;
}

at::Tensor balancing_scores(const at::Tensor& logits, const MoeConfig& config) {
  const at::Tensor wide = widened(logits);
  if (config.moe_router_score_function == MoeRouterScoreFunction::softmax) return wide.softmax(-1);
  return over_row_sum(independent_scores(wide, config.moe_router_score_function));
}

}  // namespace megatron
