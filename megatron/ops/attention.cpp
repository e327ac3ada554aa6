// Scaled dot-product attention: checks, autograd and dispatch. The GEMMs and the flash kernel are
// libtorch's.
#include "megatron/ops/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/dispatch.h"
#include "megatron/ops/softmax_kernels.h"

namespace megatron {

namespace {

// [s,b,n,d] as [b*n, s, d]; a view where the heads lie side by side.
at::Tensor heads_first(const at::Tensor& x) {
  return x.reshape({x.size(0), x.size(1) * x.size(2), x.size(3)}).transpose(0, 1);
}

// [b*n, s, d] -> [s, b, n * d].
at::Tensor heads_last(const at::Tensor& x, int64_t b) {
  return x.transpose(0, 1).reshape({x.size(1), b, x.size(0) / b * x.size(2)});
}

// The key-value heads [s,b,g,d] repeated for the n query heads.
at::Tensor expand_groups(const at::Tensor& x, int64_t n) {
  const int64_t g = x.size(2);
  if (g == n) return x;
  return x.unsqueeze(3)
      .expand({x.size(0), x.size(1), g, n / g, x.size(3)})
      .reshape({x.size(0), x.size(1), n, x.size(3)});
}

kernels::SoftmaxShape softmax_shape(at::IntArrayRef sizes, const at::Tensor& mask, bool causal,
                                    int64_t query_offset) {
  return {.b = sizes[0],
          .n = sizes[1],
          .sq = sizes[2],
          .sk = sizes[3],
          .causal = causal,
          .query_offset = query_offset,
          .masked = mask.defined() ? mask.const_data_ptr<bool>() : nullptr,
          .mask_stride_b = mask.defined() && mask.size(0) > 1 ? mask.stride(0) : 0,
          .mask_stride_q = mask.defined() ? mask.stride(2) : 0};
}

// Saves the probabilities before dropout; the dropped ones are drawn again in backward.
class CoreAttentionFunction : public torch::autograd::Function<CoreAttentionFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v, double scale,
                            const std::optional<at::Tensor>& maybe_mask, bool causal,
                            int64_t query_offset, const AttentionDropout& dropout) {
    const at::Tensor mask = maybe_mask.value_or(at::Tensor());
    const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
    at::Tensor scores = at::empty({b * n, sq, sk}, q.options());
    at::baddbmm_out(scores, scores, heads_first(q), heads_first(k).transpose(1, 2), /*beta=*/0,
                    scale);
    at::Tensor probs = scores.view({b, n, sq, sk});
    dispatch_dtype(q.scalar_type(), [&](auto type) {
      using T = decltype(type);
      kernels::masked_softmax<T>(softmax_shape(probs.sizes(), mask, causal, query_offset),
                                 probs.mutable_data_ptr<T>());
    });
    context->save_for_backward({q, k, v, probs, mask});
    context->saved_data["scale"] = scale;
    context->saved_data["causal"] = causal;
    context->saved_data["query_offset"] = query_offset;
    context->saved_data["p"] = dropout.p;
    if (dropout.p > 0) {
      context->saved_data["seed"] = static_cast<int64_t>(dropout.key.seed);
      context->saved_data["layer"] = dropout.key.layer;
      context->saved_data["site"] = static_cast<int64_t>(dropout.key.site);
      context->saved_data["sample_ordinals"] = dropout.queries.sample_ordinals;
      context->saved_data["positions"] = dropout.queries.positions;
      context->saved_data["head_offset"] = dropout.head_offset;
    }
    const at::Tensor dropped = drop(probs, dropout).view({b * n, sq, sk});
    return heads_last(at::bmm(dropped, heads_first(v)), b);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return torch::autograd::variable_list(8);
    const auto saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &probs = saved[3],
                     &mask = saved[4];
    const double scale = context->saved_data["scale"].toDouble();
    const AttentionDropout dropout = saved_dropout(context);
    const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
    const at::Tensor grad = heads_first(gradients[0].reshape({sq, b, n, v.size(3)}));
    const at::Tensor dropped = drop(probs, dropout).view({b * n, sq, sk});
    const at::Tensor grad_v = at::bmm(dropped.transpose(1, 2), grad);
    at::Tensor grad_scores = at::bmm(grad, heads_first(v).transpose(1, 2)).view({b, n, sq, sk});
    grad_scores = drop(grad_scores, dropout);
    dispatch_dtype(q.scalar_type(), [&](auto type) {
      using T = decltype(type);
      kernels::masked_softmax_backward<T>(
          softmax_shape(probs.sizes(), mask, context->saved_data["causal"].toBool(),
                        context->saved_data["query_offset"].toInt()),
          probs.const_data_ptr<T>(), grad_scores.mutable_data_ptr<T>());
    });
    const at::Tensor flat = grad_scores.view({b * n, sq, sk});
    at::Tensor grad_q = at::empty({b * n, sq, q.size(3)}, q.options());
    at::baddbmm_out(grad_q, grad_q, flat, heads_first(k), /*beta=*/0, scale);
    at::Tensor grad_k = at::empty({b * n, sk, q.size(3)}, q.options());
    at::baddbmm_out(grad_k, grad_k, flat.transpose(1, 2), heads_first(q), /*beta=*/0, scale);
    const auto like = [&](const at::Tensor& x, const at::Tensor& shape) {
      return x.transpose(0, 1).reshape(shape.sizes());
    };
    return {like(grad_q, q), like(grad_k, k), like(grad_v, v), {}, {}, {}, {}, {}};
  }

 private:
  static at::Tensor drop(const at::Tensor& x, const AttentionDropout& dropout) {
    return attention_dropout(x, dropout.p, dropout.key, dropout.queries, dropout.head_offset);
  }

  static AttentionDropout saved_dropout(torch::autograd::AutogradContext* context) {
    auto& data = context->saved_data;
    AttentionDropout dropout;
    dropout.p = data["p"].toDouble();
    if (dropout.p == 0) return dropout;
    dropout.key = {static_cast<uint64_t>(data["seed"].toInt()), data["layer"].toInt(),
                   static_cast<int32_t>(data["site"].toInt())};
    const at::IValue &ordinals = data["sample_ordinals"], &positions = data["positions"];
    dropout.queries = {ordinals.toTensor(), positions.toTensor()};
    dropout.head_offset = data["head_offset"].toInt();
    return dropout;
  }
};

void check_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     std::string_view operation) {
  check_floating(q, operation, "q");
  check_alike(k, q, operation, "k");
  check_alike(v, q, operation, "v");
  check(q.dim() == 4 && k.dim() == 4 && v.dim() == 4,
        "{}: Expected q [sq, b, n, d], k and v [sk, b, g, d], but got {}, {} and {} dimensions",
        operation, q.dim(), k.dim(), v.dim());
  check(k.size(1) == q.size(1) && k.size(3) == q.size(3) &&
            v.sizes().slice(0, 3) == k.sizes().slice(0, 3),
        "{}: Expected q [sq, b, n, d], k and v [sk, b, g, d] that agree, but got [{}], [{}] and "
        "[{}]",
        operation, fmt::join(q.sizes(), ", "), fmt::join(k.sizes(), ", "),
        fmt::join(v.sizes(), ", "));
  check(k.size(2) > 0 && q.size(2) % k.size(2) == 0,
        "{}: Expected query heads that are a multiple of the key-value heads, but got {} and {}",
        operation, q.size(2), k.size(2));
}

void check_mask(const at::Tensor& mask, const at::Tensor& q, const at::Tensor& k) {
  if (!mask.defined()) return;
  check_alike(mask, q, "core_attention", "mask", /*dtype=*/false);
  check(mask.scalar_type() == at::kBool,
        "core_attention: Expected a mask of dtype bool, but got {}",
        c10::toString(mask.scalar_type()));
  check(mask.dim() == 4 && (mask.size(0) == 1 || mask.size(0) == q.size(1)) && mask.size(1) == 1 &&
            mask.size(2) == q.size(0) && mask.size(3) == k.size(0),
        "core_attention: Expected a mask of shape [1 or {}, 1, {}, {}], but got [{}]", q.size(1),
        q.size(0), k.size(0), fmt::join(mask.sizes(), ", "));
}

void check_bias(const at::Tensor& bias, const at::Tensor& q, const at::Tensor& k) {
  if (!bias.defined()) return;
  check_floating(bias, "core_attention", "bias");
  check(bias.dim() == 4 && (bias.size(0) == 1 || bias.size(0) == q.size(1)) &&
            (bias.size(1) == 1 || bias.size(1) == q.size(2)) && bias.size(2) == q.size(0) &&
            bias.size(3) == k.size(0),
        "core_attention: Expected a bias of shape [1 or {}, 1 or {}, {}, {}], but got [{}]",
        q.size(1), q.size(2), q.size(0), k.size(0), fmt::join(bias.sizes(), ", "));
}

// Attention as a chain of differentiable operators; `drop` is applied to the probabilities.
template <typename Drop>
at::Tensor plain_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           double scale, const at::Tensor& mask, bool causal, int64_t query_offset,
                           const at::Tensor& bias, const Drop& drop) {
  const int64_t b = q.size(1), n = q.size(2), sq = q.size(0), sk = k.size(0);
  const at::Tensor keys = expand_groups(k, n), values = expand_groups(v, n);
  const at::Tensor products = at::bmm(heads_first(q), heads_first(keys).transpose(1, 2)) * scale;
  at::Tensor scores = products.view({b, n, sq, sk}).to(accumulation_dtype(q.scalar_type()));
  if (bias.defined()) scores = scores + bias.to(scores.scalar_type());
  const at::Tensor fill = at::full({}, -10000.0, scores.options());
  if (mask.defined()) scores = at::where(mask, fill, scores);
  if (causal) {
    const auto options = q.options().dtype(at::kLong);
    const at::Tensor last = at::arange(sq, options).unsqueeze(1) + query_offset;
    scores = at::where(at::arange(sk, options).unsqueeze(0) > last, fill, scores);
  }
  const at::Tensor probs = drop(at::softmax(scores, -1).to(q.scalar_type()));
  return heads_last(at::bmm(probs.view({b * n, sq, sk}), heads_first(values)), b);
}

}  // namespace

namespace reference {

at::Tensor core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          double scale, const at::Tensor& mask, bool causal, int64_t query_offset,
                          const AttentionDropout* dropout, const at::Tensor& bias) {
  return plain_attention(
      q, k, v, scale, mask, causal, query_offset, bias, [&](const at::Tensor& probs) {
        if (dropout == nullptr || dropout->p == 0) return probs;
        const at::Tensor factors = reference::attention_dropout_factors(
            probs.sizes(), dropout->p, dropout->key, dropout->queries, dropout->head_offset);
        return probs * factors.to(probs.device(), probs.scalar_type());
      });
}

}  // namespace reference

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            double scale) {
  check_attention(q, k, v, "causal_attention");
  check(q.size(0) == k.size(0),
        "causal_attention: Expected as many keys as queries, but got {} and {}; core_attention "
        "takes others",
        k.size(0), q.size(0));
  const int64_t s = q.size(0), b = q.size(1), n = q.size(2);
  if (q.numel() == 0 || v.size(3) != q.size(3)) {
    return core_attention(q, k, v, scale, {}, /*causal=*/true, 0, nullptr);
  }
  const auto rows = [](const at::Tensor& x) { return x.permute({1, 2, 0, 3}); };
  const at::Tensor query = rows(q), key = rows(expand_groups(k, n)),
                   value = rows(expand_groups(v, n));
  const at::Tensor out =
      q.is_cpu() ? std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(
                       query, key, value, /*dropout_p=*/0.0, /*is_causal=*/true, {}, scale))
                 : at::scaled_dot_product_attention(query, key, value, {}, /*dropout_p=*/0.0,
                                                    /*is_causal=*/true, scale);
  return out.permute({2, 0, 1, 3}).reshape({s, b, n * v.size(3)});
}

at::Tensor core_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          double scale, const at::Tensor& mask, bool causal, int64_t query_offset,
                          const AttentionDropout* dropout, const at::Tensor& bias) {
  check_attention(q, k, v, "core_attention");
  check_mask(mask, q, k);
  check_bias(bias, q, k);
  check(query_offset >= 0, "core_attention: Expected query_offset of at least 0, but got {}",
        query_offset);
  check(k.size(0) > 0 || q.numel() == 0, "core_attention: Expected at least 1 key, but got none");
  const AttentionDropout plan = dropout == nullptr ? AttentionDropout{} : *dropout;
  if (q.numel() == 0 || v.size(3) == 0) {
    // Nothing to compute; still a function of the inputs.
    return (q.sum() + k.sum() + v.sum()) *
           at::zeros({q.size(0), q.size(1), q.size(2) * v.size(3)}, q.options());
  }
  if (use_cpu_kernel(q) && !bias.defined()) {
    const int64_t n = q.size(2);
    const at::Tensor rows = mask.defined() && mask.stride(3) != 1 ? mask.contiguous() : mask;
    return CoreAttentionFunction::apply(q, expand_groups(k, n), expand_groups(v, n), scale,
                                        optional_tensor(rows), causal, query_offset, plan);
  }
  return plain_attention(
      q, k, v, scale, mask, causal, query_offset, bias, [&](const at::Tensor& probs) {
        return attention_dropout(probs, plan.p, plan.key, plan.queries, plan.head_offset);
      });
}

}  // namespace megatron
