// Fused attention: checks, autograd and dispatch.
#include "megatron/ops/attention/fused_attention.h"

#include <cmath>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/attention/attention_shapes.h"
#include "megatron/ops/attention/fused_attention_block.h"
#include "megatron/ops/attention/unfused_attention.h"

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::string_view kFusedAttention = "fused_attention";

// The options without tensors that have a gradient.
struct FusedAttentionPlan : torch::CustomClassHolder {
  AttentionOptions options;

  AttentionOptions with_sink(const at::Tensor& sink) const {
    AttentionOptions complete = options;
    complete.softmax_offset = sink;
    return complete;
  }
};

// Saves the output and the log-sum-exp; backward recomputes the probabilities and the dropout mask.
class FusedAttentionFunction : public torch::autograd::Function<FusedAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::optional<at::Tensor>& maybe_sink,
                            const c10::intrusive_ptr<FusedAttentionPlan>& plan) {
    const at::Tensor sink = maybe_sink.value_or(at::Tensor());
    const AttentionBlockOutput output = fused_attention_block(q, k, v, plan->with_sink(sink));
    const at::Tensor out = output.out.view({q.size(0), q.size(1), q.size(2) * v.size(3)});
    context->save_for_backward({q, k, v, sink, out, output.lse});
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return variable_list(5);
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &sink = saved[3], &lse = saved[5];
    const std::vector<int64_t> heads = {q.size(0), q.size(1), q.size(2), v.size(3)};
    const auto capsule = context->saved_data["plan"].toCapsule();
    const AttentionBlockGradients result = fused_attention_block_backward(
        q, k, v, saved[4].view(heads), lse, gradients[0].contiguous().view(heads),
        static_cast<const FusedAttentionPlan&>(*capsule).with_sink(sink));
    return {result.q, result.k, result.v, result.softmax_offset, {}};
  }
};

void check_fused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const AttentionOptions& options) {
  check_attention(q, k, v, options, kFusedAttention);
  check_no_positions(options.mask, kFusedAttention);
  check(q.size(3) > 0 && v.size(3) > 0,
        "{}: Expected head dimensions of at least 1, but got {} and {}", kFusedAttention, q.size(3),
        v.size(3));
  check(options.scale > 0 && std::isfinite(options.scale),
        "{}: Expected a finite scale above 0, but got {}", kFusedAttention, options.scale);
  check(!options.mask.masked.defined() && !options.bias.defined(),
        "{}: Expected no mask and no bias, but got one; core_attention accepts them",
        kFusedAttention);
  check(options.softmax_coefficient == 1,
        "{}: Expected a softmax coefficient of 1, but got {}; multiply the scale by it, or use "
        "core_attention",
        kFusedAttention, options.softmax_coefficient);
}

}  // namespace

at::Tensor fused_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionOptions& options) {
  check_fused(q, k, v, options);
  if (widens_for_products(q)) {
    return fused_attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), options)
        .to(at::kHalf);
  }
  if (!use_cpu_kernel(q)) return unfused_attention(q, k, v, options);
  auto plan = c10::make_intrusive<FusedAttentionPlan>();
  plan->options = options;
  plan->options.softmax_offset.reset();
  at::Tensor sink = options.softmax_offset;
  if (sink.defined()) sink = sink.to(accumulation_dtype(q.scalar_type())).contiguous();
  return FusedAttentionFunction::apply(with_contiguous_rows(q), with_contiguous_rows(k),
                                       with_contiguous_rows(v), optional_tensor(sink), plan);
}

}  // namespace megatron
