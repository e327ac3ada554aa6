// The local part of the vocab-parallel cross-entropy: checks, dispatch, and the unfused versions.
#include "megatron/ops/loss/cross_entropy.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/loss/cross_entropy_kernels.h"

namespace megatron {

namespace {

constexpr std::string_view kCrossEntropy = "cross_entropy";
constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

at::TensorOptions statistic_options(at::TensorOptions logits) {
  return logits.dtype(accumulation_dtype(c10::typeMetaToScalarType(logits.dtype())));
}

void check_logits(const at::Tensor& logits, int64_t valid) {
  check_floating(logits, kCrossEntropy, "logits");
  check(logits.dim() == 2, "cross_entropy: Expected logits of shape [t, v_p], but got [{}]",
        fmt::join(logits.sizes(), ", "));
  check(valid >= 0 && valid <= logits.size(1),
        "cross_entropy: Expected 0 to {} valid columns, but got {}", logits.size(1), valid);
}

void check_statistic(const at::Tensor& statistic, at::IntArrayRef shape, const at::Tensor& logits,
                     std::string_view name) {
  check_shape(statistic, shape, kCrossEntropy, name);
  check_alike(statistic, logits, kCrossEntropy, name, /*dtype=*/false);
  const auto dtype = accumulation_dtype(logits.scalar_type());
  check(statistic.scalar_type() == dtype && statistic.is_contiguous(),
        "cross_entropy: Expected a contiguous {} of dtype {}, but got {}{}", name,
        dtype_name(dtype), statistic.is_contiguous() ? "" : "a strided view of ",
        c10::toString(statistic.scalar_type()));
}

void check_statistics(const CrossEntropyStatistics& statistics, const at::Tensor& logits) {
  const int64_t rows = logits.size(0);
  check_statistic(statistics.row_max, {rows}, logits, "row_max");
  check_statistic(statistics.sums, {statistics.sums.size(0), rows}, logits, "sums");
}

void check_targets(const at::Tensor& targets, const at::Tensor& logits) {
  check_shape(targets, {logits.size(0)}, kCrossEntropy, "targets");
  check_alike(targets, logits, kCrossEntropy, "targets", /*dtype=*/false);
  check(targets.scalar_type() == at::kLong,
        "cross_entropy: Expected targets of dtype int64, but got {}",
        c10::toString(targets.scalar_type()));
}

// Unlike most operators, cross-entropy has a kernel for fp16 too.
bool use_cross_entropy_kernel(const at::Tensor& logits) {
  return use_cpu_kernel(logits) || (logits.is_cpu() && logits.scalar_type() == at::kHalf);
}

// The kernels accept strided rows (a slice of columns), but each row must be contiguous.
at::Tensor with_contiguous_rows(const at::Tensor& logits) {
  const at::Tensor plain = logits.detach();
  return plain.stride(1) == 1 || plain.size(1) <= 1 ? plain : plain.contiguous();
}

kernels::LogitShape logit_shape(const at::Tensor& logits, const VocabularyBlock& block) {
  return {logits.size(0), logits.size(1), block.valid, logits.stride(0), block.start};
}

at::Tensor widened(const at::Tensor& logits, int64_t valid) {
  return logits.detach().narrow(1, 0, valid).to(accumulation_dtype(logits.scalar_type()));
}

}  // namespace

double CrossEntropyParameters::smoothing() const {
  if (label_smoothing == 0) return 0;
  return label_smoothing * static_cast<double>(vocab_size) / static_cast<double>(vocab_size - 1);
}

void CrossEntropyParameters::validate() const {
  check(vocab_size >= 1, "cross_entropy: Expected a vocabulary of at least 1, but got {}",
        vocab_size);
  check(label_smoothing >= 0 && label_smoothing < 1,
        "cross_entropy: Expected label smoothing of at least 0 and below 1, but got {}",
        label_smoothing);
  check(label_smoothing == 0 || vocab_size >= 2,
        "cross_entropy: Expected a vocabulary of at least 2 for label smoothing, but got 1");
  check(std::isfinite(logit_scale) && logit_scale > 0,
        "cross_entropy: Expected a logit scale above 0, but got {}", logit_scale);
}

CrossEntropyStatistics::CrossEntropyStatistics(int64_t rows, at::TensorOptions logits,
                                               const CrossEntropyParameters& parameters)
    : row_max(at::full({rows}, kMinusInfinity, statistic_options(logits))),
      sums(at::zeros({parameters.label_smoothing > 0 ? 3 : 2, rows}, statistic_options(logits))) {}

CrossEntropyStatistics::CrossEntropyStatistics(at::Tensor row_maxima, at::Tensor row_sums)
    : row_max(std::move(row_maxima)), sums(std::move(row_sums)) {}

namespace unfused {

void cross_entropy_accumulate(CrossEntropyStatistics& statistics, const at::Tensor& logits,
                              const VocabularyBlock& block, const at::Tensor& targets,
                              const CrossEntropyParameters& parameters) {
  if (block.valid == 0) return;
  const at::Tensor x = widened(logits, block.valid) * parameters.logit_scale;
  const at::Tensor row_max = at::maximum(statistics.row_max, x.amax(1));
  const at::Tensor pivot = at::where(row_max.eq(kMinusInfinity), at::zeros_like(row_max), row_max);
  statistics.sum_exp().mul_((statistics.row_max - pivot).exp());
  statistics.sum_exp().add_((x - pivot.unsqueeze(1)).exp().sum(1));
  const at::Tensor local = targets - block.start;
  const at::Tensor here = local.ge(0).logical_and(local.lt(block.valid));
  const at::Tensor column = at::where(here, local, at::zeros_like(local)).unsqueeze(1);
  statistics.target_logit().copy_(
      at::where(here, x.gather(1, column).squeeze(1), statistics.target_logit()));
  if (const at::Tensor sum = statistics.logit_sum(); sum.defined()) sum.add_(x.sum(1));
  statistics.row_max.copy_(row_max);
}

at::Tensor cross_entropy_grad(const at::Tensor& logits, const VocabularyBlock& block,
                              const CrossEntropyStatistics& statistics, const at::Tensor& targets,
                              const at::Tensor& grad_loss,
                              const CrossEntropyParameters& parameters) {
  const at::Tensor x = widened(logits, block.valid) * parameters.logit_scale;
  const at::Tensor softmax =
      (x - statistics.row_max.unsqueeze(1)).exp() / statistics.sum_exp().unsqueeze(1);
  const at::Tensor columns = at::arange(block.valid, targets.options());
  const at::Tensor one_hot = (targets - block.start).unsqueeze(1).eq(columns).to(x.scalar_type());
  const double smoothing = parameters.smoothing();
  const at::Tensor wanted =
      one_hot * (1 - smoothing) + smoothing / static_cast<double>(parameters.vocab_size);
  const at::Tensor outer = (grad_loss * parameters.logit_scale).unsqueeze(1);
  const at::Tensor masked =
      at::where(outer.eq(0), at::zeros({}, outer.options()), (softmax - wanted) * outer);
  return at::constant_pad_nd(masked, {0, logits.size(1) - block.valid}).to(logits.scalar_type());
}

LargestLogits largest_logits(const at::Tensor& logits, int64_t valid) {
  const auto options = statistic_options(logits.options());
  LargestLogits result{at::full({logits.size(0)}, kMinusInfinity, options),
                       at::zeros({logits.size(0)}, options.dtype(at::kLong))};
  if (valid == 0) return result;
  const at::Tensor x = widened(logits, valid);
  const at::Tensor numbers = at::where(x.isnan(), at::full({}, kMinusInfinity, options), x);
  result.value = numbers.amax(1);
  const at::Tensor columns = at::arange(valid, options.dtype(at::kLong));
  result.column = at::where(numbers.eq(result.value.unsqueeze(1)), columns, valid).amin(1);
  return result;
}

}  // namespace unfused

void cross_entropy_accumulate(CrossEntropyStatistics& statistics, const at::Tensor& logits,
                              const VocabularyBlock& block, const at::Tensor& targets,
                              const CrossEntropyParameters& parameters) {
  check_logits(logits, block.valid);
  check_statistics(statistics, logits);
  check_targets(targets, logits);
  parameters.validate();
  if (!use_cross_entropy_kernel(logits)) {
    return unfused::cross_entropy_accumulate(statistics, logits, block, targets, parameters);
  }
  const at::Tensor rows = with_contiguous_rows(logits);
  const at::Tensor ids = targets.contiguous(), logit_sum = statistics.logit_sum();
  dispatch_dtype_or_half(rows.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_kernel_level([&](auto level) {
      kernels::cross_entropy_accumulate<level, T, A>(
          logit_shape(rows, block), rows.const_data_ptr<T>(),
          static_cast<A>(parameters.logit_scale), ids.const_data_ptr<int64_t>(),
          {statistics.row_max.mutable_data_ptr<A>(), statistics.sum_exp().mutable_data_ptr<A>(),
           statistics.target_logit().mutable_data_ptr<A>(), data_or_null<A>(logit_sum)});
    });
  });
}

at::Tensor cross_entropy_loss(const CrossEntropyStatistics& statistics,
                              const CrossEntropyParameters& parameters) {
  parameters.validate();
  const at::Tensor log_sum = at::log(statistics.sum_exp());
  const at::Tensor target_term = statistics.row_max - statistics.target_logit();
  const double smoothing = parameters.smoothing();
  if (smoothing == 0) return log_sum + target_term;
  const at::Tensor mean_term =
      statistics.row_max - statistics.logit_sum() / static_cast<double>(parameters.vocab_size);
  return log_sum + target_term * (1 - smoothing) + mean_term * smoothing;
}

void cross_entropy_grad_out(at::Tensor& grad, const at::Tensor& logits,
                            const VocabularyBlock& block, const CrossEntropyStatistics& statistics,
                            const at::Tensor& targets, const at::Tensor& grad_loss,
                            const CrossEntropyParameters& parameters) {
  check_logits(logits, block.valid);
  check_statistics(statistics, logits);
  check_statistic(grad_loss, {logits.size(0)}, logits, "grad_loss");
  check_targets(targets, logits);
  check_shape(grad, logits.sizes(), kCrossEntropy, "grad");
  check_alike(grad, logits, kCrossEntropy, "grad");
  check(grad.is_contiguous(), "cross_entropy: Expected a contiguous grad, but got a strided view");
  parameters.validate();
  at::Tensor to = grad.detach();
  if (!use_cross_entropy_kernel(logits)) {
    to.copy_(
        unfused::cross_entropy_grad(logits, block, statistics, targets, grad_loss, parameters));
    return;
  }
  const at::Tensor rows = with_contiguous_rows(logits), ids = targets.contiguous();
  const double smoothing = parameters.smoothing();
  dispatch_dtype_or_half(rows.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_kernel_level([&](auto level) {
      kernels::cross_entropy_gradient<level, T, A>(
          logit_shape(rows, block), rows.const_data_ptr<T>(),
          static_cast<A>(parameters.logit_scale), statistics.row_max.const_data_ptr<A>(),
          statistics.sum_exp().const_data_ptr<A>(), ids.const_data_ptr<int64_t>(),
          {static_cast<A>(1 - smoothing),
           static_cast<A>(smoothing / static_cast<double>(parameters.vocab_size))},
          grad_loss.const_data_ptr<A>(), to.mutable_data_ptr<T>());
    });
  });
}

at::Tensor cross_entropy_grad(const at::Tensor& logits, const VocabularyBlock& block,
                              const CrossEntropyStatistics& statistics, const at::Tensor& targets,
                              const at::Tensor& grad_loss,
                              const CrossEntropyParameters& parameters) {
  check_logits(logits, block.valid);
  at::Tensor grad = at::empty(logits.sizes(), logits.options());
  cross_entropy_grad_out(grad, logits, block, statistics, targets, grad_loss, parameters);
  return grad;
}

LargestLogits largest_logits(const at::Tensor& logits, int64_t valid) {
  check_logits(logits, valid);
  if (!use_cross_entropy_kernel(logits)) return unfused::largest_logits(logits, valid);
  const at::Tensor rows = with_contiguous_rows(logits);
  const auto options = statistic_options(logits.options());
  LargestLogits result{at::empty({rows.size(0)}, options),
                       at::empty({rows.size(0)}, options.dtype(at::kLong))};
  dispatch_dtype_or_half(rows.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = lanes::accumulation_t<T>;
    with_kernel_level([&](auto level) {
      kernels::logit_argmax<level, T, A>(logit_shape(rows, {0, valid}), rows.const_data_ptr<T>(),
                                         result.value.mutable_data_ptr<A>(),
                                         result.column.mutable_data_ptr<int64_t>());
    });
  });
  return result;
}

}  // namespace megatron
