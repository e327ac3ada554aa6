// Autograd over the two key exchanges.
#include "megatron/context_parallel/context_parallel_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/context_parallel/all_gather_attention.h"
#include "megatron/context_parallel/ring_attention.h"
#include "megatron/ops/attention/attention_shapes.h"

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct CallHolder : torch::CustomClassHolder {
  explicit CallHolder(ContextParallelAttentionOptions options) : call(std::move(options)) {}
  ContextParallelAttentionCall call;
};

// Saves the output and the log-sum-exp over all keys; backward communicates the other ranks' keys
// again.
class ContextParallelAttentionFunction
    : public torch::autograd::Function<ContextParallelAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& kv,
                            const std::optional<at::Tensor>& sink,
                            const std::optional<at::Tensor>& bias,
                            const c10::intrusive_ptr<CallHolder>& holder) {
    const ContextParallelAttentionInputs inputs{q, kv, sink.value_or(at::Tensor()),
                                                bias.value_or(at::Tensor())};
    const ContextParallelAttentionCall& call = holder->call;
    const AttentionBlockOutput output = call.options().exchange == KeyExchange::p2p
                                            ? ring_attention_forward(call, inputs)
                                            : all_gather_attention_forward(call, inputs);
    const at::Tensor out = output.out.to(q.scalar_type()).contiguous();
    context->save_for_backward({q, kv, inputs.softmax_offset, inputs.bias, out, output.lse});
    context->saved_data["call"] = c10::IValue::make_capsule(holder);
    return out.view({q.size(0), q.size(1), -1});
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const ContextParallelAttentionInputs inputs{saved[0], saved[1], saved[2], saved[3]};
    const at::Tensor &out = saved[4], &lse = saved[5];
    // The other ranks wait for this rank's keys, so it takes part even without a gradient.
    const at::Tensor grad_out =
        gradients[0].defined() ? gradients[0].contiguous().view(out.sizes()) : at::zeros_like(out);
    const auto capsule = context->saved_data["call"].toCapsule();
    const ContextParallelAttentionCall& call = static_cast<const CallHolder&>(*capsule).call;
    const ContextParallelAttentionGradients result =
        call.options().exchange == KeyExchange::p2p
            ? ring_attention_backward(call, inputs, out, lse, grad_out)
            : all_gather_attention_backward(call, inputs, out, lse, grad_out);
    return {result.q.to(inputs.q.scalar_type()),
            result.kv.to(inputs.kv.scalar_type()),
            result.softmax_offset,
            result.bias,
            {}};
  }
};

constexpr std::string_view kContextParallelAttention = "context_parallel_attention";

void check_scores_shape(const at::Tensor& scores, const char* name, int64_t queries, int64_t keys) {
  check(!scores.defined() || (scores.size(2) == queries && scores.size(3) == keys),
        "{}: Expected a {} of shape [.., .., {}, {}] (this rank's rows), but got [{}]",
        kContextParallelAttention, name, queries, keys,
        fmt::join(scores.defined() ? scores.sizes() : at::IntArrayRef{}, ", "));
}

void check_options(const at::Tensor& q, const at::Tensor& k,
                   const ContextParallelAttentionOptions& options) {
  const int64_t length = options.split.length, queries = length / options.split.size;
  check(options.split.size == options.cp->size() && q.size(0) == queries && k.size(0) == queries,
        "{}: Expected {} queries and keys on each of {} ranks ({} in all), but got {} and {} on "
        "one of {}",
        kContextParallelAttention, queries, options.split.size, length, q.size(0), k.size(0),
        options.cp->size());
  const AttentionMask& mask = options.attention.mask;
  check(!mask.query_positions.defined() && !mask.key_positions.defined() &&
            !mask.cu_seqlens_q.defined() && !mask.cu_seqlens_k.defined() && mask.query_offset == 0,
        "{}: Expected positions and cu_seqlens in the split alone, but got some in the mask",
        kContextParallelAttention);
  check_scores_shape(mask.masked, "mask", queries, length);
  check_scores_shape(options.attention.bias, "bias", queries, length);
}

}  // namespace

ContextParallelAttentionCall::ContextParallelAttentionCall(ContextParallelAttentionOptions options)
    : options_(std::move(options)) {
  for (int rank = 0; rank < cp().size(); ++rank) {
    positions_.push_back(zigzag_positions(options_.split, rank));
  }
}

AttentionOptions ContextParallelAttentionCall::block(const at::Tensor& key_positions,
                                                     bool with_sink, const at::Tensor& sink,
                                                     const at::Tensor& bias) const {
  const auto columns = [&](const at::Tensor& scores) {
    if (!scores.defined()) return scores;
    return scores.index_select(3, key_positions.to(scores.device()));
  };
  AttentionOptions block = options_.attention;
  block.mask.query_positions = positions(cp().rank());
  block.mask.key_positions = key_positions;
  block.mask.cu_seqlens_q = options_.split.cu_seqlens;
  block.mask.masked = columns(block.mask.masked);
  block.bias = columns(bias);
  block.softmax_offset = with_sink ? sink : at::Tensor();
  return block;
}

at::Tensor context_parallel_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const ContextParallelAttentionOptions& options) {
  check_attention(q, k, v, kContextParallelAttention);
  check_options(q, k, options);
  ContextParallelAttentionOptions constants = options;  // without the inputs that have a gradient
  constants.attention.softmax_offset.reset();
  constants.attention.bias.reset();
  auto holder = c10::make_intrusive<CallHolder>(std::move(constants));
  // Keys and values are sent in one message.
  const at::Tensor kv = at::cat({k, v}, /*dim=*/3);
  return ContextParallelAttentionFunction::apply(q, kv,
                                                 optional_tensor(options.attention.softmax_offset),
                                                 optional_tensor(options.attention.bias), holder);
}

}  // namespace megatron
