// Brings tokens to the ranks of their experts and back. Shape legend: t tokens of this rank, e
// experts of the layer, h hidden.
//
// The ranks of the group tp_ep hold all experts of a layer once: its expert-parallel ranks hold
// different experts, its tensor-parallel ranks different columns of the same ones.
#pragma once

#include <functional>
#include <memory>

#include <ATen/core/Tensor.h>

#include "megatron/base/integer_math.h"
#include "megatron/config/model/moe_config.h"
#include "megatron/ops/grouped/permutation.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// Tokens on the way: one dispatch and its way back.
class TokenDispatch {
 public:
  virtual ~TokenDispatch() = default;

  // [rows, h]: the tokens of this rank's experts, sorted by expert. Padding rows are 0.
  const at::Tensor& hidden_states() const { return hidden_states_; }
  const at::Tensor& probs() const { return probs_; }    // [rows]; 0 in padding rows
  const at::Tensor& counts() const { return counts_; }  // [e / ep] rows of each expert, on the CPU

  // The experts' outputs for those rows -> [t, h]: each token's sum over its experts. With tensor
  // parallelism of the experts, the ranks pass partial sums. Collective over tp_ep.
  virtual at::Tensor combine(const at::Tensor& expert_output) const = 0;

 protected:
  at::Tensor hidden_states_, probs_, counts_;
};

// What to add to the rows of each expert.
struct RowPadding {
  int64_t capacity = 0;  // up to this many rows, which no expert may exceed; 0: no padding
  int64_t multiple = 1;  // the number of rows is padded to a multiple

  PermutationOptions permutation_options() const {
    return {.capacity = round_up(capacity, multiple),
            .pad_to_capacity = capacity > 0,
            .row_multiple = multiple};
  }
};

class TokenDispatcher {
 public:
  virtual ~TokenDispatcher() = default;
  // hidden_states [t, h]; probs [t, e]; routing_map [t, e] bool: a token goes to these experts.
  // Calls `meanwhile`, if given, once the tokens are on their way and before it waits for those that
  // come. Collective over tp_ep, and so is the backward pass.
  virtual std::unique_ptr<TokenDispatch> dispatch(
      const at::Tensor& hidden_states, const at::Tensor& probs, const at::Tensor& routing_map,
      const RowPadding& padding, const std::function<void()>& meanwhile = {}) const = 0;
};

// `experts` of the layer must be a multiple of the expert-parallel size.
std::unique_ptr<TokenDispatcher> make_token_dispatcher(MoeTokenDispatcherType type, int64_t experts,
                                                       const ProcessGroupCollection& groups);

}  // namespace megatron
