// One autograd node for all pairs of collectives. It keeps a pointer to the group.
#include "megatron/parallel/collectives.h"

#include <cstdint>

#include <torch/csrc/autograd/custom_function.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor all_reduced(const at::Tensor& input, const ProcessGroup& group) {
  at::Tensor result = input.detach().clone(at::MemoryFormat::Contiguous);
  group.all_reduce(result);
  return result;
}

// This rank's shard of dimension `dim`.
at::Tensor local_shard(const at::Tensor& input, const ProcessGroup& group, int64_t dim) {
  const int64_t length = input.size(dim) / group.size();
  return input.detach().narrow(dim, group.rank() * length, length).contiguous();
}

// The backends gather along dimension 0; another dimension is restored afterwards.
at::Tensor all_gathered(const at::Tensor& input, const ProcessGroup& group, int64_t dim) {
  const at::Tensor gathered = group.all_gather(input);
  if (dim == 0) return gathered;
  return at::cat(gathered.chunk(group.size(), 0), dim);
}

at::Tensor reduce_scattered(const at::Tensor& input, const ProcessGroup& group, int64_t dim) {
  if (dim == 0) return group.reduce_scatter(input);
  return group.reduce_scatter(at::cat(input.detach().chunk(group.size(), dim), 0));
}

enum class Exchange { identity, reduce, split, gather, reduce_scatter };

at::Tensor exchange(Exchange kind, const at::Tensor& input, const ProcessGroup& group,
                    int64_t dim) {
  switch (kind) {
    case Exchange::identity:
      return input;
    case Exchange::reduce:
      return all_reduced(input, group);
    case Exchange::split:
      return local_shard(input, group, dim);
    case Exchange::gather:
      return all_gathered(input, group, dim);
    case Exchange::reduce_scatter:
      return reduce_scattered(input, group, dim);
  }
  fail("Expected an exchange, but got number {}", static_cast<int>(kind));
}

// Applies `forward_kind` to the input and `backward_kind` to the gradient.
class ExchangeFunction : public torch::autograd::Function<ExchangeFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, int64_t group,
                            int64_t forward_kind, int64_t backward_kind, int64_t dim) {
    context->saved_data["group"] = group;
    context->saved_data["kind"] = backward_kind;
    context->saved_data["dim"] = dim;
    const auto kind = static_cast<Exchange>(forward_kind);
    if (kind == Exchange::identity) return input;
    return exchange(kind, input, *reinterpret_cast<const ProcessGroup*>(group), dim);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto& group =
        *reinterpret_cast<const ProcessGroup*>(context->saved_data["group"].toInt());
    const auto kind = static_cast<Exchange>(context->saved_data["kind"].toInt());
    const int64_t dim = context->saved_data["dim"].toInt();
    return {exchange(kind, gradients[0], group, dim), at::Tensor(), at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

at::Tensor apply(const at::Tensor& input, const ProcessGroup& group, Exchange forward,
                 Exchange backward, bool last_dim) {
  if (group.size() == 1) return input;
  check(input.dim() >= 1,
        "Expected a tensor of at least one dimension for a collective over group {}", group.name());
  const int64_t dim = last_dim ? input.dim() - 1 : 0;
  if (forward == Exchange::split || forward == Exchange::reduce_scatter) {
    check(input.size(dim) % group.size() == 0,
          "Expected dimension {} divisible by the {} ranks of group {}, but got {}; {} works", dim,
          group.size(), group.name(), input.size(dim),
          (input.size(dim) / group.size() + 1) * group.size());
  }
  return ExchangeFunction::apply(input, reinterpret_cast<int64_t>(&group),
                                 static_cast<int64_t>(forward), static_cast<int64_t>(backward),
                                 dim);
}

}  // namespace

at::Tensor copy_to_tensor_model_parallel_region(const at::Tensor& input, const ProcessGroup& tp) {
  return apply(input, tp, Exchange::identity, Exchange::reduce, /*last_dim=*/false);
}

at::Tensor reduce_from_tensor_model_parallel_region(const at::Tensor& input,
                                                    const ProcessGroup& tp) {
  return apply(input, tp, Exchange::reduce, Exchange::identity, /*last_dim=*/false);
}

at::Tensor scatter_to_tensor_model_parallel_region(const at::Tensor& input,
                                                   const ProcessGroup& tp) {
  return apply(input, tp, Exchange::split, Exchange::gather, /*last_dim=*/true);
}

at::Tensor gather_from_tensor_model_parallel_region(const at::Tensor& input,
                                                    const ProcessGroup& tp) {
  return apply(input, tp, Exchange::gather, Exchange::split, /*last_dim=*/true);
}

at::Tensor all_gather_last_dim_from_tensor_parallel_region(const at::Tensor& input,
                                                           const ProcessGroup& tp) {
  return apply(input, tp, Exchange::gather, Exchange::reduce_scatter, /*last_dim=*/true);
}

at::Tensor scatter_to_sequence_parallel_region(const at::Tensor& input, const ProcessGroup& tp) {
  return apply(input, tp, Exchange::split, Exchange::gather, /*last_dim=*/false);
}

at::Tensor gather_from_sequence_parallel_region(const at::Tensor& input, const ProcessGroup& tp,
                                                bool tensor_parallel_output_grad) {
  return apply(input, tp, Exchange::gather,
               tensor_parallel_output_grad ? Exchange::reduce_scatter : Exchange::split,
               /*last_dim=*/false);
}

at::Tensor reduce_scatter_to_sequence_parallel_region(const at::Tensor& input,
                                                      const ProcessGroup& tp) {
  return apply(input, tp, Exchange::reduce_scatter, Exchange::gather, /*last_dim=*/false);
}

}  // namespace megatron
