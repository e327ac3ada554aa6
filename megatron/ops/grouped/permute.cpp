// permute and unpermute: checks, autograd, dispatch, and the unfused versions.
#include "megatron/ops/grouped/permute.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/grouped/permute_kernels.h"

namespace megatron {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The index tensors of a permutation, as a node keeps them.
struct PermutationState : torch::CustomClassHolder {
  ExpertPermutation permutation;
};

c10::intrusive_ptr<PermutationState> state_of(const ExpertPermutation& permutation) {
  auto state = c10::make_intrusive<PermutationState>();
  state->permutation = permutation;
  return state;
}

const ExpertPermutation& permutation_of(AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<PermutationState>(
             context->saved_data["permutation"].toCapsule())
      ->permutation;
}

// `index` of rows of x, or -1 for a row of zeros.
at::Tensor select_rows(const at::Tensor& x, const at::Tensor& index) {
  std::vector<int64_t> zero = x.sizes().vec();
  zero[0] = 1;
  const at::Tensor extended = at::cat({x, at::zeros(zero, x.options())});
  return extended.index_select(0, at::where(index.lt(0), x.size(0), index).to(x.device()));
}

// [most rows of a token, tokens]: the rows of each token, then -1.
at::Tensor table_of_token_rows(const ExpertPermutation& permutation) {
  const auto* offsets = permutation.token_offsets.const_data_ptr<int64_t>();
  const auto* rows = permutation.token_rows.const_data_ptr<int64_t>();
  int64_t most = 0;
  for (int64_t token = 0; token < permutation.tokens; ++token) {
    most = std::max(most, offsets[token + 1] - offsets[token]);
  }
  at::Tensor table = at::full({most, permutation.tokens}, -1, at::TensorOptions(at::kLong));
  auto* entry = table.mutable_data_ptr<int64_t>();
  for (int64_t token = 0; token < permutation.tokens; ++token) {
    for (int64_t i = offsets[token]; i < offsets[token + 1]; ++i) {
      entry[(i - offsets[token]) * permutation.tokens + token] = rows[i];
    }
  }
  return table;
}

// The sum over each token's rows without atomic operations.
at::Tensor sum_by_table(const at::Tensor& rows, const ExpertPermutation& permutation,
                        const at::Tensor& weights) {
  const auto wide = accumulation_dtype(rows.scalar_type());
  at::Tensor values = rows.to(wide);
  if (weights.defined()) values = values * weights.to(wide).unsqueeze(1);
  const at::Tensor table = table_of_token_rows(permutation);
  at::Tensor sum = at::zeros({permutation.tokens, rows.size(1)}, values.options());
  for (int64_t i = 0; i < table.size(0); ++i) sum = sum + select_rows(values, table[i]);
  return sum.to(rows.scalar_type());
}

// weights [rows] may be undefined.
at::Tensor gather(const at::Tensor& tokens, const ExpertPermutation& permutation,
                  const at::Tensor& weights) {
  if (!use_cpu_kernel_or_half(tokens)) {
    const at::Tensor rows = select_rows(tokens, permutation.row_token);
    return weights.defined() ? (rows * weights.unsqueeze(1)).to(tokens.scalar_type()) : rows;
  }
  const at::Tensor from = tokens.contiguous();
  at::Tensor to = at::empty({permutation.rows(), from.size(1)}, from.options());
  dispatch_dtype_or_half(from.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_kernel_level([&](auto level) {
      kernels::gather_rows<level, T, A>(
          permutation.rows(), from.size(1), permutation.row_token.const_data_ptr<int64_t>(),
          from.const_data_ptr<T>(), data_or_null<const A>(weights), to.mutable_data_ptr<T>());
    });
  });
  return to;
}

at::Tensor sum_rows(const at::Tensor& rows, const ExpertPermutation& permutation,
                    const at::Tensor& weights) {
  if (!use_cpu_kernel_or_half(rows)) return sum_by_table(rows, permutation, weights);
  const at::Tensor from = rows.contiguous();
  at::Tensor to = at::empty({permutation.tokens, from.size(1)}, from.options());
  const kernels::TokenRows index{permutation.tokens,
                                 permutation.token_offsets.const_data_ptr<int64_t>(),
                                 permutation.token_rows.const_data_ptr<int64_t>()};
  dispatch_dtype_or_half(from.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_kernel_level([&](auto level) {
      kernels::sum_token_rows<level, T, A>(index, from.size(1), from.const_data_ptr<T>(),
                                           data_or_null<const A>(weights),
                                           to.mutable_data_ptr<T>());
    });
  });
  return to;
}

// [rows] in accumulation_dtype.
at::Tensor dot_with_tokens(const at::Tensor& rows, const at::Tensor& tokens,
                           const ExpertPermutation& permutation) {
  const auto wide = accumulation_dtype(rows.scalar_type());
  if (!use_cpu_kernel_or_half(rows)) {
    return (rows.to(wide) * select_rows(tokens, permutation.row_token).to(wide)).sum(1);
  }
  const at::Tensor left = rows.contiguous(), right = tokens.contiguous();
  at::Tensor to = at::empty({rows.size(0)}, rows.options().dtype(wide));
  dispatch_dtype_or_half(rows.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_kernel_level([&](auto level) {
      kernels::dot_rows<level, T, A>(
          rows.size(0), rows.size(1), permutation.row_token.const_data_ptr<int64_t>(),
          left.const_data_ptr<T>(), right.const_data_ptr<T>(), to.mutable_data_ptr<A>());
    });
  });
  return to;
}

class PermuteFunction : public torch::autograd::Function<PermuteFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            c10::intrusive_ptr<PermutationState> state) {
    at::Tensor rows = gather(x, state->permutation, /*weights=*/{});
    context->saved_data["permutation"] = c10::IValue::make_capsule(std::move(state));
    return rows;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}};
    return {sum_rows(gradients[0], permutation_of(context), /*weights=*/{}), {}};
  }
};

class UnpermuteFunction : public torch::autograd::Function<UnpermuteFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows,
                            const std::optional<at::Tensor>& weights,
                            c10::intrusive_ptr<PermutationState> state) {
    at::Tensor wide;
    if (weights.has_value()) {
      wide = weights->detach().to(accumulation_dtype(rows.scalar_type())).contiguous();
      context->saved_data["weights_dtype"] = static_cast<int64_t>(weights->scalar_type());
    }
    const bool needs_weights = weights.has_value() && weights->requires_grad();
    context->save_for_backward({needs_weights ? rows : at::Tensor(), wide});
    at::Tensor tokens = sum_rows(rows, state->permutation, wide);
    context->saved_data["permutation"] = c10::IValue::make_capsule(std::move(state));
    return tokens;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}};
    const auto saved = context->get_saved_variables();
    const at::Tensor &rows = saved[0], &weights = saved[1];
    const ExpertPermutation& permutation = permutation_of(context);
    at::Tensor grad_rows, grad_weights;
    if (context->needs_input_grad(0)) grad_rows = gather(gradients[0], permutation, weights);
    if (rows.defined()) {
      grad_weights =
          dot_with_tokens(rows, gradients[0], permutation)
              .to(static_cast<at::ScalarType>(context->saved_data["weights_dtype"].toInt()));
    }
    return {grad_rows, grad_weights, {}};
  }
};

void check_token_rows(const at::Tensor& x, int64_t rows, std::string_view operation,
                      std::string_view name) {
  check_floating(x, operation, name);
  check(x.dim() == 2 && x.size(0) == rows, "{}: Expected {} of shape [{}, h], but got [{}]",
        operation, name, rows, fmt::join(x.sizes(), ", "));
}

void check_probs(const at::Tensor& probs, const ExpertPermutation& permutation) {
  check_floating(probs, "permute_probs", "probs");
  check_shape(probs, {permutation.tokens, permutation.choices}, "permute_probs", "probs");
}

void check_unpermute(const at::Tensor& rows, const ExpertPermutation& permutation,
                     const at::Tensor& weights) {
  check_token_rows(rows, permutation.rows(), "unpermute", "rows");
  if (!weights.defined()) return;
  check_floating(weights, "unpermute", "weights");
  check_shape(weights, {permutation.rows()}, "unpermute", "weights");
  check_alike(weights, rows, "unpermute", "weights", /*dtype=*/false);
}

struct Chunks {
  std::vector<int64_t> sizes, order;
};

Chunks check_chunks(const at::Tensor& x, const at::Tensor& sizes, const at::Tensor& order) {
  constexpr std::string_view operation = "sort_chunks";
  check_defined(x, operation, "x");
  check(x.dim() >= 1, "{}: Expected x of at least 1 dimension, but got a scalar", operation);
  check_defined(sizes, operation, "sizes");
  check_ordinals(sizes, sizes.numel(), operation, "sizes");
  check_ordinals(order, sizes.numel(), operation, "order");
  const auto *size = sizes.const_data_ptr<int64_t>(), *place = order.const_data_ptr<int64_t>();
  Chunks chunks{{size, size + sizes.numel()}, {place, place + order.numel()}};
  const auto total = std::accumulate(chunks.sizes.begin(), chunks.sizes.end(), int64_t{0});
  check(total == x.size(0) && std::all_of(chunks.sizes.begin(), chunks.sizes.end(),
                                          [](int64_t rows) { return rows >= 0; }),
        "{}: Expected sizes of at least 0 that add up to {} rows, but got [{}]", operation,
        x.size(0), fmt::join(chunks.sizes, ", "));
  std::vector<bool> seen(chunks.order.size());
  for (const int64_t chunk : chunks.order) {
    const bool is_new = chunk >= 0 && chunk < sizes.numel() && !seen[chunk];
    check(is_new, "{}: Expected order to be a permutation of {} chunks, but got [{}]", operation,
          sizes.numel(), fmt::join(chunks.order, ", "));
    seen[chunk] = true;
  }
  return chunks;
}

at::Tensor move_chunks(const at::Tensor& x, const std::vector<int64_t>& sizes,
                       const std::vector<int64_t>& order) {
  if (order.empty()) return x.clone();
  const auto chunks = x.split_with_sizes(sizes);
  std::vector<at::Tensor> sorted;
  sorted.reserve(order.size());
  for (const int64_t chunk : order) sorted.push_back(chunks[chunk]);
  return at::cat(sorted);
}

// One node instead of one of each chunk.
class SortChunksFunction : public torch::autograd::Function<SortChunksFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const std::vector<int64_t>& sizes, const std::vector<int64_t>& order) {
    std::vector<int64_t> sorted_sizes, back(order.size());
    for (size_t i = 0; i < order.size(); ++i) {
      sorted_sizes.push_back(sizes[order[i]]);
      back[order[i]] = static_cast<int64_t>(i);
    }
    context->saved_data["sizes"] = sorted_sizes;
    context->saved_data["order"] = back;
    return move_chunks(x, sizes, order);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (!gradients[0].defined()) return {{}, {}, {}};
    return {move_chunks(gradients[0], context->saved_data["sizes"].toIntVector(),
                        context->saved_data["order"].toIntVector()),
            {},
            {}};
  }
};

}  // namespace

namespace unfused {

at::Tensor permute(const at::Tensor& x, const ExpertPermutation& permutation) {
  return select_rows(x, permutation.row_token);
}

at::Tensor permute_probs(const at::Tensor& probs, const ExpertPermutation& permutation) {
  return select_rows(probs.reshape({-1}), permutation.row_choice);
}

at::Tensor unpermute(const at::Tensor& rows, const ExpertPermutation& permutation,
                     const at::Tensor& weights) {
  return sum_by_table(rows, permutation, weights);
}

at::Tensor sort_chunks(const at::Tensor& x, const at::Tensor& sizes, const at::Tensor& order) {
  const Chunks chunks = check_chunks(x, sizes, order);
  return move_chunks(x, chunks.sizes, chunks.order);
}

}  // namespace unfused

at::Tensor permute(const at::Tensor& x, const ExpertPermutation& permutation) {
  check_token_rows(x, permutation.tokens, "permute", "x");
  return PermuteFunction::apply(x, state_of(permutation));
}

at::Tensor permute_probs(const at::Tensor& probs, const ExpertPermutation& permutation) {
  check_probs(probs, permutation);
  return unfused::permute_probs(probs, permutation);
}

at::Tensor unpermute(const at::Tensor& rows, const ExpertPermutation& permutation,
                     const at::Tensor& weights) {
  check_unpermute(rows, permutation, weights);
  return UnpermuteFunction::apply(rows, optional_tensor(weights), state_of(permutation));
}

at::Tensor sort_chunks(const at::Tensor& x, const at::Tensor& sizes, const at::Tensor& order) {
  Chunks chunks = check_chunks(x, sizes, order);
  return SortChunksFunction::apply(x, chunks.sizes, chunks.order);
}

}  // namespace megatron
