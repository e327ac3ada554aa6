// The loop over chunks of the vocabulary: matrix products with the cross-entropy kernels between.
#include "megatron/ops/loss/linear_cross_entropy.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/ops/matmul/matmul.h"
#include "megatron/ops/matmul/matmul_accumulate.h"

namespace megatron {

namespace {

constexpr std::string_view kLinearCrossEntropy = "linear_cross_entropy";

int64_t checked_chunk(const LinearCrossEntropyInputs& in) {
  check_floating(in.x, kLinearCrossEntropy, "x");
  check(in.x.dim() == 2 && in.x.is_contiguous(),
        "{}: Expected a contiguous x of shape [t, h], but got [{}]", kLinearCrossEntropy,
        fmt::join(in.x.sizes(), ", "));
  check_alike(in.weight, in.x, kLinearCrossEntropy, "weight");
  check(in.weight.dim() == 2 && in.weight.size(1) == in.x.size(1),
        "{}: Expected a weight of shape [v_p, {}], but got [{}]", kLinearCrossEntropy, in.x.size(1),
        fmt::join(in.weight.sizes(), ", "));
  check(in.block.valid >= 0 && in.block.valid <= in.weight.size(0),
        "{}: Expected 0 to {} valid columns, but got {}", kLinearCrossEntropy, in.weight.size(0),
        in.block.valid);
  check(in.chunk_columns >= 0,
        "{}: Expected chunk_columns of at least 1, or 0 for the default, but got {}",
        kLinearCrossEntropy, in.chunk_columns);
  in.parameters.validate();
  if (in.chunk_columns > 0) return in.chunk_columns;
  return linear_cross_entropy_chunk(in.x.size(0), in.x.element_size());
}

// Computes the logits one chunk at a time, in one buffer.
class ChunkedLogits {
 public:
  explicit ChunkedLogits(const LinearCrossEntropyInputs& inputs)
      : inputs_(inputs),
        x_(inputs.x.detach()),
        weight_(inputs.weight.detach()),
        chunk_(std::min(checked_chunk(inputs), inputs.block.valid)),
        buffer_(at::empty({x_.size(0) * chunk_}, x_.options())) {}

  // Calls body(first column, logits [t, columns], block) for each chunk in order; body may
  // overwrite the logits.
  template <typename Body>
  void for_each(const Body& body) {
    const VocabularyBlock& block = inputs_.block;
    for (int64_t first = 0; first < block.valid; first += chunk_) {
      const int64_t columns = std::min(chunk_, block.valid - first);
      at::Tensor logits = buffer_.narrow(0, 0, x_.size(0) * columns).view({x_.size(0), columns});
      matmul_out(logits, x_, weight_.narrow(0, first, columns).t(), /*bias=*/{});
      body(first, logits, VocabularyBlock{block.start + first, columns});
    }
  }

 private:
  const LinearCrossEntropyInputs& inputs_;
  at::Tensor x_, weight_;
  int64_t chunk_;
  at::Tensor buffer_;
};

}  // namespace

int64_t linear_cross_entropy_chunk(int64_t tokens, int64_t element_size) {
  // Measured: about 8 MiB of logits stay in cache between the matrix products, which are slow for
  // fewer than 1024 columns.
  constexpr int64_t bytes = 8 << 20;
  const int64_t columns = bytes / std::max<int64_t>(1, tokens * element_size);
  return std::clamp<int64_t>(columns / 256 * 256, 1024, 8192);
}

CrossEntropyStatistics linear_cross_entropy_statistics(const LinearCrossEntropyInputs& inputs) {
  ChunkedLogits chunks(inputs);
  CrossEntropyStatistics statistics(inputs.x.size(0), inputs.x.options(), inputs.parameters);
  chunks.for_each([&](int64_t, const at::Tensor& logits, const VocabularyBlock& block) {
    cross_entropy_accumulate(statistics, logits, block, inputs.targets, inputs.parameters);
  });
  return statistics;
}

LinearCrossEntropyGradients linear_cross_entropy_gradients(const LinearCrossEntropyInputs& inputs,
                                                           const CrossEntropyStatistics& statistics,
                                                           const at::Tensor& grad_loss,
                                                           bool x_needs_gradient,
                                                           bool weight_needs_gradient,
                                                           const at::Tensor& main_grad) {
  ChunkedLogits chunks(inputs);
  const at::Tensor x = inputs.x.detach(), weight = inputs.weight.detach();
  const auto dtype = x.scalar_type();
  LinearCrossEntropyGradients gradients;
  at::Tensor grad_x;
  if (x_needs_gradient) {
    grad_x = at::zeros(x.sizes(), x.options().dtype(accumulation_dtype(dtype)));
  }
  if (weight_needs_gradient && !main_grad.defined()) {
    gradients.weight = at::empty(weight.sizes(), weight.options());
    gradients.weight.narrow(0, inputs.block.valid, weight.size(0) - inputs.block.valid).zero_();
  }
  chunks.for_each([&](int64_t first, at::Tensor& logits, const VocabularyBlock& block) {
    cross_entropy_grad_out(logits, logits, block, statistics, inputs.targets, grad_loss,
                           inputs.parameters);
    if (x_needs_gradient) matmul_accumulate(grad_x, logits, weight.narrow(0, first, block.valid));
    if (!weight_needs_gradient) return;
    if (main_grad.defined()) {
      at::Tensor rows = main_grad.detach().narrow(0, first, block.valid);
      accumulate_weight_gradient(rows, logits, x);
    } else {
      at::Tensor rows = gradients.weight.narrow(0, first, block.valid);
      at::mm_out(rows, logits.t(), x);
    }
  });
  if (x_needs_gradient) gradients.x = grad_x.to(dtype);
  return gradients;
}

}  // namespace megatron
