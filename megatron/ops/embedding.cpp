// The local part of the vocab-parallel embedding: checks, autograd, dispatch, and the
// unfused version.
#include "megatron/ops/embedding.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/embedding_kernels.h"

namespace megatron {

namespace {

kernels::EmbeddingShape embedding_shape(const at::Tensor& ids, at::IntArrayRef weight_sizes,
                                        int64_t vocab_start) {
  return {.b = ids.size(0),
          .s = ids.size(1),
          .h = weight_sizes[1],
          .vocab_start = vocab_start,
          .vocab_rows = weight_sizes[0]};
}

template <typename T, typename G>
void add_rows(const kernels::EmbeddingShape& shape, const at::Tensor& grad, const at::Tensor& ids,
              at::Tensor& gradient) {
  with_kernel_level([&](auto level) {
    kernels::embedding_backward<level, T, G>(shape, grad.const_data_ptr<T>(),
                                             ids.const_data_ptr<int64_t>(),
                                             gradient.mutable_data_ptr<G>());
  });
}

// gradient [v_p, h] += rows of grad [s, b, h] by id.
void accumulate_rows(const kernels::EmbeddingShape& shape, const at::Tensor& grad,
                     const at::Tensor& ids, at::Tensor& gradient) {
  if (grad.scalar_type() == at::kBFloat16 && gradient.scalar_type() == at::kFloat) {
    add_rows<c10::BFloat16, float>(shape, grad, ids, gradient);
    return;
  }
  if (grad.scalar_type() == at::kHalf && gradient.scalar_type() == at::kFloat) {
    add_rows<c10::Half, float>(shape, grad, ids, gradient);
    return;
  }
  dispatch_dtype_or_half(grad.scalar_type(), [&](auto type) {
    using T = decltype(type);
    add_rows<T, T>(shape, grad, ids, gradient);
  });
}

class EmbeddingFunction : public torch::autograd::Function<EmbeddingFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight,
                            const at::Tensor& ids, int64_t vocab_start,
                            const std::optional<at::Tensor>& main_grad) {
    const at::Tensor flat_ids = ids.contiguous();
    context->save_for_backward({flat_ids});
    context->saved_data["weight_sizes"] = weight.sizes().vec();
    context->saved_data["vocab_start"] = vocab_start;
    // Not a saved variable: other micro-batches modify the buffer before this backward.
    context->saved_data["main_grad"] = main_grad.value_or(at::Tensor());
    const at::Tensor table = weight.contiguous();
    at::Tensor out = at::empty({ids.size(1), ids.size(0), weight.size(1)}, weight.options());
    dispatch_dtype_or_half(weight.scalar_type(), [&](auto type) {
      using T = decltype(type);
      with_kernel_level([&](auto level) {
        kernels::embedding_forward<level, T>(
            embedding_shape(flat_ids, weight.sizes(), vocab_start), table.const_data_ptr<T>(),
            flat_ids.const_data_ptr<int64_t>(), out.mutable_data_ptr<T>());
      });
    });
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined() || !context->needs_input_grad(0)) return {{}, {}, {}, {}};
    const at::Tensor ids = context->get_saved_variables()[0];
    const auto sizes = context->saved_data["weight_sizes"].toIntVector();
    const auto shape = embedding_shape(ids, sizes, context->saved_data["vocab_start"].toInt());
    const at::Tensor grad = gradients[0].contiguous();
    const at::IValue& saved_main_grad = context->saved_data["main_grad"];
    at::Tensor main_grad = saved_main_grad.toTensor();
    if (main_grad.defined()) {
      accumulate_rows(shape, grad, ids, main_grad);
      return {{}, {}, {}, {}};
    }
    at::Tensor dense =
        at::zeros(sizes, grad.options().dtype(accumulation_dtype(grad.scalar_type())));
    accumulate_rows(shape, grad, ids, dense);
    return {dense.to(grad.scalar_type()), {}, {}, {}};
  }
};

void check_embedding(const at::Tensor& weight, const at::Tensor& ids, const at::Tensor& main_grad) {
  constexpr std::string_view operation = "embedding_lookup";
  check_floating(weight, operation, "weight");
  check(weight.dim() == 2, "{}: Expected weight of shape [v_p, h], but got [{}]", operation,
        fmt::join(weight.sizes(), ", "));
  check_defined(ids, operation, "ids");
  check(ids.dim() == 2 && ids.scalar_type() == at::kLong,
        "{}: Expected ids of shape [b, s] and dtype int64, but got [{}] of {}", operation,
        fmt::join(ids.sizes(), ", "), c10::toString(ids.scalar_type()));
  check_alike(ids, weight, operation, "ids", /*dtype=*/false);
  if (ids.is_cpu() && ids.numel() > 0) {
    const int64_t lowest = ids.min().item<int64_t>();
    check(lowest >= 0, "{}: Expected ids of at least 0, but got {}", operation, lowest);
  }
  if (!main_grad.defined()) return;
  check_shape(main_grad, weight.sizes(), operation, "main_grad");
  check_alike(main_grad, weight, operation, "main_grad", /*dtype=*/false);
  const auto wide = accumulation_dtype(weight.scalar_type());
  check(main_grad.is_contiguous() &&
            (main_grad.scalar_type() == weight.scalar_type() || main_grad.scalar_type() == wide),
        "{}: Expected a contiguous main_grad of dtype {} or {}, but got {}{}", operation,
        dtype_name(weight.scalar_type()), dtype_name(wide),
        main_grad.is_contiguous() ? "" : "a strided view of ",
        c10::toString(main_grad.scalar_type()));
}

// For devices and dtypes without a kernel.
class UnfusedEmbeddingFunction : public torch::autograd::Function<UnfusedEmbeddingFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight,
                            const at::Tensor& ids, int64_t vocab_start,
                            const std::optional<at::Tensor>& main_grad) {
    context->save_for_backward({ids});
    context->saved_data["weight_sizes"] = weight.sizes().vec();
    context->saved_data["vocab_start"] = vocab_start;
    context->saved_data["main_grad"] = main_grad.value_or(at::Tensor());
    return unfused::embedding_lookup(weight, ids, vocab_start);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined() || !context->needs_input_grad(0)) return {{}, {}, {}, {}};
    const at::Tensor ids = context->get_saved_variables()[0];
    const auto sizes = context->saved_data["weight_sizes"].toIntVector();
    const at::Tensor grad = gradients[0];
    const at::Tensor local = ids.t().reshape({-1}) - context->saved_data["vocab_start"].toInt();
    const at::Tensor here = local.ge(0).logical_and(local.lt(sizes[0]));
    // Ids of other shards are mapped to an extra row, which is dropped: it is the padding index of
    // embedding_dense_backward, which sorts the ids and so sums in a fixed order.
    const at::Tensor rows = at::where(here, local, at::full_like(local, sizes[0]));
    const at::Tensor dense =
        at::embedding_dense_backward(grad.reshape({-1, sizes[1]}), rows, sizes[0] + 1,
                                     /*padding_idx=*/sizes[0], /*scale_grad_by_freq=*/false)
            .narrow(0, 0, sizes[0]);
    const at::IValue& saved_main_grad = context->saved_data["main_grad"];
    at::Tensor main_grad = saved_main_grad.toTensor();
    if (!main_grad.defined()) return {dense, {}, {}, {}};
    main_grad.add_(dense);
    return {{}, {}, {}, {}};
  }
};

}  // namespace

namespace unfused {

at::Tensor embedding_lookup(const at::Tensor& weight, const at::Tensor& ids, int64_t vocab_start) {
  const at::Tensor local = ids.t() - vocab_start;
  const at::Tensor here = local.ge(0).logical_and(local.lt(weight.size(0)));
  if (weight.size(0) == 0) {
    return at::zeros({ids.size(1), ids.size(0), weight.size(1)}, weight.options());
  }
  const at::Tensor rows = at::where(here, local, at::zeros_like(local));
  const at::Tensor found = at::embedding(weight, rows);
  return at::where(here.unsqueeze(2), found, at::zeros({}, found.options()));
}

}  // namespace unfused

at::Tensor embedding_lookup(const at::Tensor& weight, const at::Tensor& ids, int64_t vocab_start,
                            const at::Tensor& main_grad) {
  check_embedding(weight, ids, main_grad);
  const auto buffer = optional_tensor(main_grad.defined() ? main_grad.detach() : main_grad);
  if (use_cpu_kernel_or_half(weight))
    return EmbeddingFunction::apply(weight, ids, vocab_start, buffer);
  return UnfusedEmbeddingFunction::apply(weight, ids, vocab_start, buffer);
}

}  // namespace megatron
