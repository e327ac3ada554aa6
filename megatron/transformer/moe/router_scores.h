// Scores and probabilities of experts from a router's logits, with gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include "megatron/config/model/moe_config.h"

namespace megatron {

// logits [t, e] -> the scores that the choice compares, before any bias: the logits themselves for a
// softmax over the chosen experts. In fp32 or wider.
at::Tensor choice_scores(const at::Tensor& logits, const MoeConfig& config);

// The probabilities of the chosen experts ([t, e] bool, k in each row), 0 elsewhere: [t, e] in fp32
// or wider. The gradient reaches the logits; the choice has none.
at::Tensor expert_probabilities(const at::Tensor& logits, const at::Tensor& chosen,
                                const MoeConfig& config);

// The scores in balancing losses: a distribution over all experts, [t, e] in fp32 or wider.
at::Tensor balancing_scores(const at::Tensor& logits, const MoeConfig& config);

}  // namespace megatron
