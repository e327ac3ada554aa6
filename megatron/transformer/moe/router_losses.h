// The balancing losses of a router as weights on its scores, without gradients: of each loss, the
// gradient flows through the scores alone. Shape legend: t tokens of this rank, e experts, k chosen
// experts of a token.
//
// A loss is coefficient x e / k x sum over experts of (mean score) x (share of the choices), so 1 for
// a balanced load (Fedus et al., 2021). Means are over the tokens that count on all ranks that hold
// the micro-batch, and this rank has its tokens' part of the sum, so that the loss does not depend on
// the layout.
#pragma once

#include "megatron/config/model/moe_config.h"
#include "megatron/transformer/moe/moe_pass.h"
#include "megatron/transformer/moe/token_group.h"

namespace megatron {

// chosen [t, e] bool: the best experts by the scores of the losses (balancing_scores), without bias
// and groups. `valid` [t] bool or undefined: which tokens count. `layer` accumulates the choices of
// global_aux_loss; null: of this micro-batch alone. Collective.
std::vector<RouterLoss> balancing_losses(const MoeConfig& config, const at::Tensor& chosen,
                                         const at::Tensor& valid, const TokenGroup& tokens,
                                         const ProcessGroup& data_parallel, bool shares_rows,
                                         MoeStep::Layer* layer);

}  // namespace megatron
