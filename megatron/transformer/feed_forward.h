// Interface of the module in a layer's MLP slot: an MLP or experts.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/parallel/row_exchange.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/output_and_bias.h"

namespace megatron {

// A pass of experts divided at its exchanges of rows between ranks, so that a schedule can compute
// something else meanwhile. The parts run once, in this order; the caller exchanges what the first
// two return.
class DividedFeedForward {
 public:
  virtual ~DividedFeedForward() = default;

  struct Dispatched {
    at::Tensor rows, probs;
  };
  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the rows to send, and their
  // probabilities. Collective.
  virtual Dispatched dispatch(const at::Tensor& hidden_states) = 0;
  // The exchange of both, once dispatch() has run. Its reverse is that of at_experts().
  virtual RowExchange exchange() const = 0;

  struct Computed {
    at::Tensor rows;    // to send back
    at::Tensor shared;  // of the shared experts, which are not sent; undefined without them
  };
  // What came. `hidden_states` as above where has_shared_experts(); else it may be undefined.
  virtual Computed at_experts(const Dispatched& received, const at::Tensor& hidden_states) = 0;
  virtual bool has_shared_experts() const = 0;

  // What came back -> what forward() returns.
  virtual OutputAndBias combine(const Computed& returned) = 0;

  // With delay_wgrad_compute: adds the weight gradients of at_experts(), whose backward pass leaves
  // them out, to the main gradients. Runs after that.
  virtual void compute_weight_gradients() = 0;
};

class FeedForward : public MegatronModule {
 public:
  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  virtual OutputAndBias forward(const at::Tensor& hidden_states,
                                const ForwardContext& context) const = 0;

  // forward() in parts; null: it exchanges no rows. The module must outlive the pass.
  virtual std::unique_ptr<DividedFeedForward> divided(const ForwardContext& /*context*/) const {
    return nullptr;
  }
};

}  // namespace megatron
