#include "megatron/context_parallel/all_to_all_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/attention/attention_shapes.h"

namespace megatron {

namespace {

struct HeadExchange : torch::CustomClassHolder {
  ProcessGroupPtr cp;
  at::Tensor positions;  // of the gathered tokens, in the order of the ranks
  at::Tensor order;      // the inverse permutation

  // x [s/cp, b, cp, w], a slice of width w for each rank -> this rank's slice of all tokens,
  // [s, b, w].
  at::Tensor to_sequence(const at::Tensor& x) const {
    const int64_t s = x.size(0), b = x.size(1), ranks = x.size(2), w = x.size(3);
    const at::Tensor slices = cp->all_to_all(x.permute({2, 0, 1, 3}).reshape({ranks * s, b, w}));
    return slices.index_select(0, order.to(x.device()));
  }

  // The inverse of to_sequence.
  at::Tensor to_heads(const at::Tensor& x) const {
    const int64_t ranks = cp->size(), s = x.size(0) / ranks, b = x.size(1), w = x.size(2);
    const at::Tensor slices = cp->all_to_all(x.index_select(0, positions.to(x.device())));
    return slices.view({ranks, s, b, w}).permute({1, 2, 0, 3}).contiguous();
  }
};

using HeadExchangePtr = c10::intrusive_ptr<HeadExchange>;

class ToSequence : public torch::autograd::Function<ToSequence> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const HeadExchangePtr& exchange) {
    context->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    return exchange->to_sequence(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto capsule = context->saved_data["exchange"].toCapsule();
    return {static_cast<const HeadExchange&>(*capsule).to_heads(gradients[0]), {}};
  }
};

class ToHeads : public torch::autograd::Function<ToHeads> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const HeadExchangePtr& exchange) {
    context->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    return exchange->to_heads(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto capsule = context->saved_data["exchange"].toCapsule();
    return {static_cast<const HeadExchange&>(*capsule).to_sequence(gradients[0]), {}};
  }
};

}  // namespace

at::Tensor all_to_all_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const SequenceSplit& split, const ProcessGroupPtr& cp,
                                const FullSequenceAttention& attend) {
  check_attention(q, k, v, "all_to_all_attention");
  const int64_t ranks = cp->size(), s = q.size(0), b = q.size(1), n = q.size(2), g = k.size(2);
  check(n % ranks == 0 && (g % ranks == 0 || ranks % g == 0),
        "all_to_all_attention: Expected query and key-value heads that {} ranks can share, but got "
        "{} and {}; --cp-comm-type p2p or allgather works",
        ranks, n, g);
  auto exchange = c10::make_intrusive<HeadExchange>();
  exchange->cp = cp;
  exchange->positions = gathered_positions(split);
  exchange->order = inverse_permutation(exchange->positions);

  const int64_t groups = std::max(g, ranks);  // key-value heads that ranks share are repeated
  const auto by_rank = [&](const at::Tensor& x, int64_t heads) {
    return expand_groups(x, heads).reshape({s, b, ranks, -1});
  };
  // Queries, keys and values are sent in one message.
  const at::Tensor slices = at::cat({by_rank(q, n), by_rank(k, groups), by_rank(v, groups)}, 3);
  const at::Tensor sequence = ToSequence::apply(slices, exchange);
  const int64_t tokens = sequence.size(0), dv = v.size(3);
  int64_t first = 0;
  const auto next_heads = [&](int64_t heads, int64_t width) {
    const at::Tensor slice = sequence.narrow(2, first, heads * width);
    first += heads * width;
    return slice.unflatten(2, {heads, width});
  };
  const at::Tensor query = next_heads(n / ranks, q.size(3)),
                   key = next_heads(groups / ranks, q.size(3)),
                   value = next_heads(groups / ranks, dv);
  const at::Tensor attended = attend(query, key, value).reshape({tokens, b, -1});
  return ToHeads::apply(attended, exchange).view({s, b, n * dv});
}

}  // namespace megatron
