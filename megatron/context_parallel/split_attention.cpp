// Autograd over the two transports.
#include "megatron/context_parallel/split_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/context_parallel/gathered_attention.h"
#include "megatron/context_parallel/ring_attention.h"
#include "megatron/ops/attention/attention_shapes.h"

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct SplitAttentionHolder : torch::CustomClassHolder {
  explicit SplitAttentionHolder(SplitAttention options) : call(std::move(options)) {}
  SplitAttentionCall call;
};

// Saves the output and the log-sum-exp of all keys; those of other ranks travel again in backward.
class SplitAttentionFunction : public torch::autograd::Function<SplitAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& kv,
                            const std::optional<at::Tensor>& sink,
                            const std::optional<at::Tensor>& bias,
                            const c10::intrusive_ptr<SplitAttentionHolder>& holder) {
    const SplitAttentionInputs inputs{q, kv, sink.value_or(at::Tensor()),
                                      bias.value_or(at::Tensor())};
    const SplitAttentionCall& call = holder->call;
    const AttentionBlockOutput output = call.options().transport == KeyTransport::ring
                                            ? ring_attention_forward(call, inputs)
                                            : gathered_attention_forward(call, inputs);
    const at::Tensor out = output.out.to(q.scalar_type()).contiguous();
    context->save_for_backward({q, kv, inputs.softmax_offset, inputs.bias, out, output.lse});
    context->saved_data["call"] = c10::IValue::make_capsule(holder);
    return out.view({q.size(0), q.size(1), -1});
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const SplitAttentionInputs inputs{saved[0], saved[1], saved[2], saved[3]};
    const at::Tensor &out = saved[4], &lse = saved[5];
    // The other ranks wait for this one's keys, whether or not it has a gradient.
    const at::Tensor grad_out =
        gradients[0].defined() ? gradients[0].contiguous().view(out.sizes()) : at::zeros_like(out);
    const auto capsule = context->saved_data["call"].toCapsule();
    const SplitAttentionCall& call = static_cast<const SplitAttentionHolder&>(*capsule).call;
    const SplitAttentionGradients result =
        call.options().transport == KeyTransport::ring
            ? ring_attention_backward(call, inputs, out, lse, grad_out)
            : gathered_attention_backward(call, inputs, out, lse, grad_out);
    return {result.q.to(inputs.q.scalar_type()),
            result.kv.to(inputs.kv.scalar_type()),
            result.softmax_offset,
            result.bias,
            {}};
  }
};

void check_rows(const at::Tensor& scores, const char* name, int64_t queries, int64_t keys) {
  check(!scores.defined() || (scores.size(2) == queries && scores.size(3) == keys),
        "split_attention: Expected a {} of shape [.., .., {}, {}] (this rank's rows), but got [{}]",
        name, queries, keys,
        fmt::join(scores.defined() ? scores.sizes() : at::IntArrayRef{}, ", "));
}

}  // namespace

SplitAttentionCall::SplitAttentionCall(SplitAttention options) : options_(std::move(options)) {
  for (int rank = 0; rank < cp().size(); ++rank) {
    positions_.push_back(zigzag_positions(options_.split, rank));
  }
}

AttentionBlock SplitAttentionCall::block(const at::Tensor& key_positions, bool with_sink,
                                         const at::Tensor& sink, const at::Tensor& bias) const {
  const auto columns = [&](const at::Tensor& scores) {
    if (!scores.defined()) return scores;
    return scores.index_select(3, key_positions.to(scores.device()));
  };
  return {.scale = options_.scale,
          .query_positions = positions(cp().rank()),
          .key_positions = key_positions,
          .causal = options_.causal,
          .window = options_.window,
          .cu_seqlens = options_.split.cu_seqlens,
          .softmax_offset = with_sink ? sink : at::Tensor(),
          .dropout = options_.dropout,
          .in_full = options_.in_full,
          .mask = columns(options_.mask),
          .bias = columns(bias)};
}

at::Tensor split_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const SplitAttention& options) {
  check_attention(q, k, v, "split_attention");
  const int64_t length = options.split.length, queries = length / options.split.size;
  check(options.split.size == options.cp->size() && q.size(0) == queries && k.size(0) == queries,
        "split_attention: Expected {} queries and keys on each of {} ranks ({} in all), but got {} "
        "and {} on one of {}",
        queries, options.split.size, length, q.size(0), k.size(0), options.cp->size());
  check_rows(options.mask, "mask", queries, length);
  check_rows(options.bias, "bias", queries, length);
  SplitAttention rule = options;  // the node itself keeps what has a gradient
  rule.softmax_offset.reset();
  rule.bias.reset();
  auto holder = c10::make_intrusive<SplitAttentionHolder>(std::move(rule));
  // Both travel in one message.
  const at::Tensor kv = at::cat({k, v}, /*dim=*/3);
  return SplitAttentionFunction::apply(q, kv, optional_tensor(options.softmax_offset),
                                       optional_tensor(options.bias), holder);
}

}  // namespace megatron
