// The local pieces of the vocab-parallel cross-entropy: checks, dispatch, reference versions.
#include "megatron/ops/cross_entropy.h"

#include <ATen/ATen.h>

#include "megatron/ops/accumulation_type.h"
#include "megatron/ops/cross_entropy_kernels.h"
#include "megatron/ops/dispatch.h"

namespace megatron {

namespace {

constexpr std::string_view kCrossEntropy = "cross_entropy";

void check_logits(const at::Tensor& logits, int64_t valid_columns) {
  check_floating(logits, kCrossEntropy, "logits");
  check(logits.dim() == 2, "cross_entropy: Expected logits of shape [t, v_p], but got [{}]",
        fmt::join(logits.sizes(), ", "));
  check(valid_columns >= 0 && valid_columns <= logits.size(1),
        "cross_entropy: Expected valid_columns of 0 to {}, but got {}", logits.size(1),
        valid_columns);
}

void check_statistic(const at::Tensor& statistic, const at::Tensor& logits, std::string_view name) {
  check_shape(statistic, {logits.size(0)}, kCrossEntropy, name);
  check_alike(statistic, logits, kCrossEntropy, name, /*dtype=*/false);
  const auto dtype = accumulation_dtype(logits.scalar_type());
  check(statistic.scalar_type() == dtype, "cross_entropy: Expected {} of dtype {}, but got {}",
        name, dtype_name(dtype), c10::toString(statistic.scalar_type()));
}

void check_targets(const at::Tensor& targets, const at::Tensor& logits) {
  check_shape(targets, {logits.size(0)}, kCrossEntropy, "targets");
  check_alike(targets, logits, kCrossEntropy, "targets", /*dtype=*/false);
  check(targets.scalar_type() == at::kLong,
        "cross_entropy: Expected targets of dtype int64, but got {}",
        c10::toString(targets.scalar_type()));
}

at::Tensor empty_statistic(const at::Tensor& logits) {
  return at::empty({logits.size(0)},
                   logits.options().dtype(accumulation_dtype(logits.scalar_type())));
}

// Rows may be strided (a slice of columns); each row itself is contiguous.
at::Tensor with_contiguous_rows(const at::Tensor& logits) {
  const at::Tensor plain = logits.detach();
  return plain.stride(1) == 1 || plain.size(1) <= 1 ? plain : plain.contiguous();
}

kernels::LogitShape logit_shape(const at::Tensor& logits, int64_t valid_columns,
                                int64_t vocab_start) {
  return {logits.size(0), logits.size(1), valid_columns, logits.stride(0), vocab_start};
}

void sums_on_cpu(const at::Tensor& logits, int64_t valid_columns, bool find_max,
                 at::Tensor& row_max, const at::Tensor& targets, int64_t vocab_start,
                 at::Tensor& sum_exp, at::Tensor& target_logit) {
  const at::Tensor rows = with_contiguous_rows(logits);
  const at::Tensor maxima = row_max.contiguous();
  const at::Tensor ids = targets.contiguous();
  at::Tensor sums = empty_statistic(logits);
  at::Tensor chosen = empty_statistic(logits);
  dispatch_dtype(rows.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    kernels::cross_entropy_sums<T, A>(logit_shape(rows, valid_columns, vocab_start), find_max,
                                      rows.const_data_ptr<T>(), maxima.mutable_data_ptr<A>(),
                                      ids.const_data_ptr<int64_t>(), sums.mutable_data_ptr<A>(),
                                      chosen.mutable_data_ptr<A>());
  });
  row_max = maxima;
  sum_exp = sums;
  target_logit = chosen;
}

}  // namespace

namespace reference {

void cross_entropy_row_max(const at::Tensor& logits, int64_t valid_columns, at::Tensor& row_max) {
  const at::Tensor valid = logits.detach().narrow(1, 0, valid_columns);
  if (valid_columns == 0) {
    row_max = at::full({logits.size(0)}, -std::numeric_limits<double>::infinity(),
                       logits.options().dtype(accumulation_dtype(logits.scalar_type())));
    return;
  }
  row_max = valid.to(accumulation_dtype(logits.scalar_type())).amax(1);
}

void cross_entropy_row_sums(const at::Tensor& logits, int64_t valid_columns,
                            const at::Tensor& row_max, const at::Tensor& targets,
                            int64_t vocab_start, at::Tensor& sum_exp, at::Tensor& target_logit) {
  const at::Tensor shifted =
      logits.detach().narrow(1, 0, valid_columns).to(accumulation_dtype(logits.scalar_type())) -
      row_max.unsqueeze(1);
  sum_exp = shifted.exp().sum(1);
  if (valid_columns == 0) {
    target_logit = at::zeros_like(sum_exp);
    return;
  }
  const at::Tensor local = targets - vocab_start;
  const at::Tensor here = local.ge(0).logical_and(local.lt(valid_columns));
  const at::Tensor column = at::where(here, local, at::zeros_like(local)).unsqueeze(1);
  const at::Tensor chosen = shifted.gather(1, column).squeeze(1);
  target_logit = at::where(here, chosen, at::zeros_like(chosen));
}

void cross_entropy_rows(const at::Tensor& logits, int64_t valid_columns, const at::Tensor& targets,
                        int64_t vocab_start, at::Tensor& row_max, at::Tensor& sum_exp,
                        at::Tensor& target_logit) {
  reference::cross_entropy_row_max(logits, valid_columns, row_max);
  reference::cross_entropy_row_sums(logits, valid_columns, row_max, targets, vocab_start, sum_exp,
                                    target_logit);
}

at::Tensor cross_entropy_grad(const at::Tensor& logits, int64_t valid_columns,
                              const at::Tensor& row_max, const at::Tensor& sum_exp,
                              const at::Tensor& targets, int64_t vocab_start,
                              const at::Tensor& grad_loss) {
  const auto dtype = accumulation_dtype(logits.scalar_type());
  const at::Tensor valid = logits.detach().narrow(1, 0, valid_columns).to(dtype);
  const at::Tensor softmax = (valid - row_max.unsqueeze(1)).exp() / sum_exp.unsqueeze(1);
  const at::Tensor columns = at::arange(valid_columns, targets.options());
  const at::Tensor one_hot = (targets - vocab_start).unsqueeze(1).eq(columns).to(dtype);
  const at::Tensor gradient = (softmax - one_hot) * grad_loss.unsqueeze(1);
  const at::Tensor masked =
      at::where(grad_loss.unsqueeze(1).eq(0), at::zeros({}, gradient.options()), gradient);
  return at::constant_pad_nd(masked, {0, logits.size(1) - valid_columns}).to(logits.scalar_type());
}

}  // namespace reference

void cross_entropy_row_max(const at::Tensor& logits, int64_t valid_columns, at::Tensor& row_max) {
  check_logits(logits, valid_columns);
  if (!use_cpu_kernel(logits)) {
    return reference::cross_entropy_row_max(logits, valid_columns, row_max);
  }
  const at::Tensor rows = with_contiguous_rows(logits);
  at::Tensor maxima = empty_statistic(logits);
  dispatch_dtype(rows.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    kernels::cross_entropy_max<T, A>(logit_shape(rows, valid_columns, 0), rows.const_data_ptr<T>(),
                                     maxima.mutable_data_ptr<A>());
  });
  row_max = maxima;
}

void cross_entropy_row_sums(const at::Tensor& logits, int64_t valid_columns,
                            const at::Tensor& row_max, const at::Tensor& targets,
                            int64_t vocab_start, at::Tensor& sum_exp, at::Tensor& target_logit) {
  check_logits(logits, valid_columns);
  check_statistic(row_max, logits, "row_max");
  check_targets(targets, logits);
  if (!use_cpu_kernel(logits)) {
    return reference::cross_entropy_row_sums(logits, valid_columns, row_max, targets, vocab_start,
                                             sum_exp, target_logit);
  }
  at::Tensor maxima = row_max;
  sums_on_cpu(logits, valid_columns, /*find_max=*/false, maxima, targets, vocab_start, sum_exp,
              target_logit);
}

void cross_entropy_rows(const at::Tensor& logits, int64_t valid_columns, const at::Tensor& targets,
                        int64_t vocab_start, at::Tensor& row_max, at::Tensor& sum_exp,
                        at::Tensor& target_logit) {
  check_logits(logits, valid_columns);
  check_targets(targets, logits);
  if (!use_cpu_kernel(logits)) {
    return reference::cross_entropy_rows(logits, valid_columns, targets, vocab_start, row_max,
                                         sum_exp, target_logit);
  }
  row_max = empty_statistic(logits);
  sums_on_cpu(logits, valid_columns, /*find_max=*/true, row_max, targets, vocab_start, sum_exp,
              target_logit);
}

void cross_entropy_grad_into(at::Tensor& grad, const at::Tensor& logits, int64_t valid_columns,
                             const at::Tensor& row_max, const at::Tensor& sum_exp,
                             const at::Tensor& targets, int64_t vocab_start,
                             const at::Tensor& grad_loss) {
  check_logits(logits, valid_columns);
  check_statistic(row_max, logits, "row_max");
  check_statistic(sum_exp, logits, "sum_exp");
  check_statistic(grad_loss, logits, "grad_loss");
  check_targets(targets, logits);
  check_shape(grad, logits.sizes(), kCrossEntropy, "grad");
  check_alike(grad, logits, kCrossEntropy, "grad");
  check(grad.is_contiguous(), "cross_entropy: Expected a contiguous grad, but got a strided view");
  at::Tensor target_grad = grad.detach();
  if (!use_cpu_kernel(logits)) {
    target_grad.copy_(reference::cross_entropy_grad(logits, valid_columns, row_max, sum_exp,
                                                    targets, vocab_start, grad_loss));
    return;
  }
  const at::Tensor rows = with_contiguous_rows(logits);
  const at::Tensor maxima = row_max.contiguous(), sums = sum_exp.contiguous();
  const at::Tensor ids = targets.contiguous(), losses = grad_loss.contiguous();
  dispatch_dtype(rows.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    kernels::cross_entropy_gradient<T, A>(
        logit_shape(rows, valid_columns, vocab_start), rows.const_data_ptr<T>(),
        maxima.const_data_ptr<A>(), sums.const_data_ptr<A>(), ids.const_data_ptr<int64_t>(),
        losses.const_data_ptr<A>(), target_grad.mutable_data_ptr<T>());
  });
}

at::Tensor cross_entropy_grad(const at::Tensor& logits, int64_t valid_columns,
                              const at::Tensor& row_max, const at::Tensor& sum_exp,
                              const at::Tensor& targets, int64_t vocab_start,
                              const at::Tensor& grad_loss) {
  check_logits(logits, valid_columns);
  at::Tensor grad = at::empty(logits.sizes(), logits.options());
  cross_entropy_grad_into(grad, logits, valid_columns, row_max, sum_exp, targets, vocab_start,
                          grad_loss);
  return grad;
}

}  // namespace megatron
