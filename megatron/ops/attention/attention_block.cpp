// Blocks of attention: checks, the choice of implementation, and the merge.
#include "megatron/ops/attention/attention_block.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/ops/attention/attention_shapes.h"
#include "megatron/ops/attention/fused_attention_block.h"
#include "megatron/ops/attention/unfused_attention_block.h"

namespace megatron {

namespace {

constexpr std::string_view kAttentionBlock = "attention_block";

void check_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const AttentionOptions& options, bool unfused) {
  check_attention(q, k, v, options, kAttentionBlock);
  check(q.size(0) > 0 && k.size(0) > 0,
        "{}: Expected at least 1 query and 1 key, but got {} and {}", kAttentionBlock, q.size(0),
        k.size(0));
  check(unfused || (!options.mask.masked.defined() && !options.bias.defined()),
        "{}: Expected no mask and no bias in a fused block, but got one; unfused blocks accept "
        "them",
        kAttentionBlock);
  check(options.softmax_coefficient == 1,
        "{}: Expected a softmax coefficient of 1, but got {}; multiply the scale by it, or use "
        "core_attention",
        kAttentionBlock, options.softmax_coefficient);
}

}  // namespace

AttentionBlockOutput attention_block(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     const AttentionOptions& options, bool unfused) {
  check_block(q, k, v, options, unfused);
  return unfused || !use_cpu_kernel_or_half(q) ? unfused_attention_block(q, k, v, options)
                                               : fused_attention_block(q, k, v, options);
}

AttentionBlockOutput merge_attention(const AttentionBlockOutput& one,
                                     const AttentionBlockOutput& other) {
  const at::ScalarType wide = accumulation_dtype(one.out.scalar_type());
  at::Tensor maximum = at::maximum(one.lse, other.lse);
  // Rows that saw no key in either block: any finite maximum gives them weight 0.
  maximum = at::where(maximum == -INFINITY, at::zeros_like(maximum), maximum);
  const at::Tensor weight = at::exp2(one.lse - maximum),
                   other_weight = at::exp2(other.lse - maximum);
  const at::Tensor total = weight + other_weight;
  const at::Tensor divisor = at::where(total == 0, at::ones_like(total), total);
  const auto share = [&](const at::Tensor& x) {  // [b, n, sq] -> [sq, b, n, 1]
    return (x / divisor).permute({2, 0, 1}).unsqueeze(-1).to(wide);
  };
  return {.out = one.out.to(wide) * share(weight) + other.out.to(wide) * share(other_weight),
          .lse = maximum + total.log2()};
}

AttentionBlockGradients attention_block_backward(const at::Tensor& q, const at::Tensor& k,
                                                 const at::Tensor& v, const at::Tensor& out,
                                                 const at::Tensor& lse, const at::Tensor& grad_out,
                                                 const AttentionOptions& options, bool unfused) {
  check_block(q, k, v, options, unfused);
  return unfused || !use_cpu_kernel_or_half(q)
             ? unfused_attention_block_backward(q, k, v, out, lse, grad_out, options)
             : fused_attention_block_backward(q, k, v, out, lse, grad_out, options);
}

}  // namespace megatron
