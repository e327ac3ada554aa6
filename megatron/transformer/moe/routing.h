// The choice of experts from scores, as data: no modules, no gradients of the choice. Shape legend: t
// tokens, e experts, k chosen experts of a token.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/config/model/moe_config.h"

namespace megatron {

// A group-limited choice (DeepSeek-V2 and -V3): the experts form `num_groups` groups of neighbours. A
// group's score is the sum of its topk / group_topk best ones; experts of the `group_topk` best
// groups can be chosen. 0: no groups.
struct ExpertChoice {
  int64_t topk = 2;
  int64_t num_groups = 0, group_topk = 0;
};

// scores [t, e] -> the chosen experts, best first, [t, k] int64. Of equal scores the lowest expert
// number is better, and of equal groups the first.
at::Tensor choose_experts(const at::Tensor& scores, const ExpertChoice& choice);

// [t, k] int64 -> [t, e] bool.
at::Tensor routing_map_of(const at::Tensor& chosen, int64_t experts);

// Scores of all experts that balance the load without a loss (Sinkhorn-Knopp): exp(logits [t, e]),
// scaled so that rows and columns have equal sums, in fp32 or wider. `valid` [t] bool or undefined:
// other tokens do not take part and get 0.
at::Tensor sinkhorn(const at::Tensor& logits, const at::Tensor& valid);

// Which choices an expert keeps: at most `capacity` tokens. chosen and probs [t, e], tokens in the
// order of one rank. Of equal probabilities the first token is kept.
at::Tensor within_capacity(const at::Tensor& chosen, const at::Tensor& probs, int64_t capacity,
                           MoeTokenDropPolicy policy);

// Most tokens of an expert: the mean of `tokens` that choose `topk` of `experts`, times `factor`.
int64_t expert_capacity(int64_t tokens, int64_t topk, int64_t experts, double factor);

}  // namespace megatron
