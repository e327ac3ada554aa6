// Scaled dot-product attention: checks, autograd and dispatch. libtorch computes the GEMMs and the
// flash attention.
#include "megatron/ops/attention/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/attention/attention_shapes.h"
#include "megatron/ops/attention/softmax_kernels.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/column_sum.h"

namespace megatron {

namespace {

// The autograd node's state besides tensors.
struct CoreAttentionPlan : torch::CustomClassHolder {
  double scale = 1;
  std::vector<KeyRange> visible;  // [sq]
  AttentionDropout dropout;

  kernels::SoftmaxShape shape(at::IntArrayRef sizes, const at::Tensor& masked) const {
    return {.b = sizes[0],
            .n = sizes[1],
            .sq = sizes[2],
            .sk = sizes[3],
            .visible = visible.data(),
            .masked = masked.defined() ? masked.const_data_ptr<bool>() : nullptr,
            .mask_stride_b = masked.defined() && masked.size(0) > 1 ? masked.stride(0) : 0,
            .mask_stride_q = masked.defined() ? masked.stride(2) : 0};
  }

  at::Tensor drop(const at::Tensor& x) const {
    return attention_dropout(x, dropout.p, dropout.key, dropout.queries, dropout.head_offset);
  }
};

// Saves the probabilities before dropout; backward draws the dropout mask again.
class CoreAttentionFunction : public torch::autograd::Function<CoreAttentionFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v,
                            const std::optional<at::Tensor>& maybe_masked,
                            const std::optional<at::Tensor>& maybe_sink,
                            const c10::intrusive_ptr<CoreAttentionPlan>& plan) {
    const at::Tensor masked = maybe_masked.value_or(at::Tensor());
    const at::Tensor sink = maybe_sink.value_or(at::Tensor());
    const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
    at::Tensor scores = at::empty({b * n, sq, sk}, q.options());
    at::baddbmm_out(scores, scores, heads_first(q), heads_first(k).transpose(1, 2), /*beta=*/0,
                    plan->scale);
    at::Tensor probs = scores.view({b, n, sq, sk}), sink_probs;
    if (sink.defined()) sink_probs = at::empty({b, n, sq}, sink.options());
    dispatch_dtype(q.scalar_type(), [&](auto type) {
      using T = decltype(type);
      using A = lanes::accumulation_t<T>;
      with_kernel_level([&](auto level) {
        kernels::masked_softmax<level, T>(plan->shape(probs.sizes(), masked),
                                          probs.mutable_data_ptr<T>(), data_or_null<A>(sink),
                                          data_or_null<A>(sink_probs));
      });
    });
    context->save_for_backward({q, k, v, probs, masked, sink_probs});
    context->saved_data["plan"] = c10::IValue::make_capsule(plan);
    return heads_last(at::bmm(plan->drop(probs).view({b * n, sq, sk}), heads_first(v)), b);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return torch::autograd::variable_list(6);
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &probs = saved[3],
                     &masked = saved[4];
    const auto capsule = context->saved_data["plan"].toCapsule();
    const auto& plan = static_cast<const CoreAttentionPlan&>(*capsule);
    const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
    const at::Tensor grad = heads_first(gradients[0].reshape({sq, b, n, v.size(3)}));
    const at::Tensor dropped = plan.drop(probs).view({b * n, sq, sk});
    const at::Tensor grad_v = at::bmm(dropped.transpose(1, 2), grad);
    at::Tensor grad_scores = at::bmm(grad, heads_first(v).transpose(1, 2)).view({b, n, sq, sk});
    grad_scores = plan.drop(grad_scores);
    at::Tensor grad_rows, grad_sink;
    if (saved[5].defined()) grad_rows = saved[5].clone();
    dispatch_dtype(q.scalar_type(), [&](auto type) {
      using T = decltype(type);
      with_kernel_level([&](auto level) {
        kernels::masked_softmax_backward<level, T>(
            plan.shape(probs.sizes(), masked), probs.const_data_ptr<T>(),
            grad_scores.mutable_data_ptr<T>(), data_or_null<lanes::accumulation_t<T>>(grad_rows));
      });
    });
    if (grad_rows.defined()) {
      grad_sink = column_sum(grad_rows.transpose(1, 2).reshape({b * sq, n}));
    }
    const at::Tensor flat = grad_scores.view({b * n, sq, sk});
    at::Tensor grad_q = at::empty({b * n, sq, q.size(3)}, q.options());
    at::baddbmm_out(grad_q, grad_q, flat, heads_first(k), /*beta=*/0, plan.scale);
    at::Tensor grad_k = at::empty({b * n, sk, q.size(3)}, q.options());
    at::baddbmm_out(grad_k, grad_k, flat.transpose(1, 2), heads_first(q), /*beta=*/0, plan.scale);
    const auto like = [&](const at::Tensor& x, const at::Tensor& shape) {
      return x.transpose(0, 1).reshape(shape.sizes());
    };
    return {like(grad_q, q), like(grad_k, k), like(grad_v, v), {}, grad_sink, {}};
  }
};

// Attention composed of differentiable libtorch operators; `drop` applies dropout to the
// probabilities.
template <typename Drop>
at::Tensor composed_core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const AttentionOptions& options, const Drop& drop) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
  const at::Tensor keys = expand_groups(k, n), values = expand_groups(v, n);
  const at::ScalarType wide = accumulation_dtype(q.scalar_type());
  at::Tensor scores;
  if (options.softmax_coefficient == 1) {
    const at::Tensor products =
        at::bmm(heads_first(q), heads_first(keys).transpose(1, 2)) * options.scale;
    scores = soft_capped(products.view({b, n, sq, sk}).to(wide), options.soft_cap);
  } else {
    const at::Tensor products = at::baddbmm(at::zeros({b * n, sq, sk}, q.options()), heads_first(q),
                                            heads_first(keys).transpose(1, 2),
                                            /*beta=*/0, /*alpha=*/options.scale);
    scores = products.view({b, n, sq, sk}).to(wide) * options.softmax_coefficient;
  }
  if (options.bias.defined()) scores = scores + options.bias.to(scores.scalar_type());
  const at::Tensor masked = options.mask.materialize(sq, sk, q.device());
  scores = at::where(masked, at::full({}, kMaskedScore, scores.options()), scores);
  if (options.softmax_offset.defined()) {
    const at::Tensor column = options.softmax_offset.to(scores.scalar_type()).view({1, n, 1, 1});
    scores = at::cat({scores, column.expand({b, n, sq, 1})}, -1);
  }
  const at::Tensor probs = drop(at::softmax(scores, -1).narrow(-1, 0, sk).to(q.scalar_type()));
  return heads_last(at::bmm(probs.reshape({b * n, sq, sk}), heads_first(values)), b);
}

// Calls `kernel` on [b, n, s, d] tensors, the layout of libtorch's attention.
template <typename Kernel>
at::Tensor in_libtorch_layout(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const Kernel& kernel) {
  const int64_t n = q.size(2);
  const auto rows = [](const at::Tensor& x) { return x.permute({1, 2, 0, 3}); };
  const at::Tensor out = kernel(rows(q), rows(expand_groups(k, n)), rows(expand_groups(v, n)));
  return out.permute({2, 0, 1, 3}).reshape({q.size(0), q.size(1), n * v.size(3)});
}

}  // namespace

namespace reference {

at::Tensor core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const AttentionOptions& options) {
  return composed_core_attention(q, k, v, options, [&](const at::Tensor& probs) {
    const AttentionDropout& dropout = options.dropout;
    if (dropout.p == 0) return probs;
    const at::Tensor factors = attention_dropout_factors(probs.sizes(), dropout.p, dropout.key,
                                                         dropout.queries, dropout.head_offset);
    return probs * factors.to(probs.device(), probs.scalar_type());
  });
}

}  // namespace reference

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            double scale) {
  check_attention(q, k, v, "causal_attention");
  check(q.size(0) == k.size(0),
        "causal_attention: Expected as many keys as queries, but got {} and {}; core_attention "
        "supports other lengths",
        k.size(0), q.size(0));
  if (q.numel() == 0 || v.size(3) != q.size(3)) {
    return core_attention(q, k, v, {.scale = scale});
  }
  if (widens_for_products(q)) {
    return causal_attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), scale)
        .to(at::kHalf);
  }
  return in_libtorch_layout(q, k, v, [&](const auto& query, const auto& key, const auto& value) {
    return q.is_cpu() ? std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(
                            query, key, value, /*dropout_p=*/0.0, /*is_causal=*/true, {}, scale))
                      : at::scaled_dot_product_attention(query, key, value, {}, /*dropout_p=*/0.0,
                                                         /*is_causal=*/true, scale);
  });
}

at::Tensor cudnn_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           double scale) {
  check_attention(q, k, v, "cudnn_attention");
  check(q.is_cuda() && (q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf),
        "cudnn_attention: Expected bf16 or fp16 on a GPU, but got {} on {}; --attention-backend "
        "flash or unfused takes others",
        dtype_name(q.scalar_type()), q.device().str());
  check(q.size(0) == k.size(0),
        "cudnn_attention: Expected as many keys as queries, but got {} and {}; core_attention "
        "supports other lengths",
        k.size(0), q.size(0));
  return in_libtorch_layout(q, k, v, [&](const auto& query, const auto& key, const auto& value) {
    return std::get<0>(at::_scaled_dot_product_cudnn_attention(
        query, key, value, /*attn_bias=*/{}, /*compute_log_sumexp=*/at::GradMode::is_enabled(),
        /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false, scale));
  });
}

at::Tensor core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const AttentionOptions& options) {
  check_attention(q, k, v, options, "core_attention");
  check_no_positions(options.mask, "core_attention");
  check(k.size(0) > 0 || q.numel() == 0, "core_attention: Expected at least 1 key, but got none");
  if (q.numel() == 0 || v.size(3) == 0) {
    // Zeros, but connected to the inputs' graph.
    return (q.sum() + k.sum() + v.sum()) *
           at::zeros({q.size(0), q.size(1), q.size(2) * v.size(3)}, q.options());
  }
  if (widens_for_products(q)) {
    return core_attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), options)
        .to(at::kHalf);
  }
  if (use_cpu_kernel(q) && !options.bias.defined() && options.softmax_coefficient == 1 &&
      options.soft_cap == 0) {
    const int64_t n = q.size(2);
    const at::Tensor& masked = options.mask.masked;
    const at::Tensor rows =
        masked.defined() && masked.stride(3) != 1 ? masked.contiguous() : masked;
    auto plan = c10::make_intrusive<CoreAttentionPlan>();
    plan->scale = options.scale;
    plan->visible = options.mask.visible_keys(q.size(0), k.size(0));
    plan->dropout = options.dropout;
    at::Tensor sink = options.softmax_offset;
    if (sink.defined()) sink = sink.to(accumulation_dtype(q.scalar_type())).contiguous();
    return CoreAttentionFunction::apply(q, expand_groups(k, n), expand_groups(v, n),
                                        optional_tensor(rows), optional_tensor(sink), plan);
  }
  return composed_core_attention(q, k, v, options, [&](const at::Tensor& probs) {
    const AttentionDropout& dropout = options.dropout;
    return attention_dropout(probs, dropout.p, dropout.key, dropout.queries, dropout.head_offset);
  });
}

}  // namespace megatron
