// A linear layer in low precision with its gradients: operands quantised by the layer's quantizer,
// products with fp32 sums (precision/quantized_product.h).
#pragma once

#include "megatron/base/parameter.h"
#include "megatron/tensor_parallel/linear_quantizer.h"

namespace megatron {

// x [..., i], weight [o, i], bias [o] or undefined, of one dtype (fp32, bf16, fp16) -> [..., o] in that
// dtype = q(x) q(weight)^T (+ bias), rounded once. Backward: dx = q(dy) q(weight); dw = q(dy)^T q(x),
// added to the weight's main_grad where that is defined; the bias gradient is not quantised. Keeps
// codes of x for backward where a tensor has one scale, else x, of which the transpose is quantised.
at::Tensor quantized_linear(const at::Tensor& x, const Parameter& weight, const at::Tensor& bias,
                            const std::shared_ptr<LinearQuantizer>& quantizer);

// The linear layer of a column-parallel layer with its communication: x [s, b, i], or [s/tp, b, i]
// with sequence parallelism -> [s, b, o_p].
at::Tensor quantized_column_parallel_linear(const at::Tensor& x, const Parameter& weight,
                                            const at::Tensor& bias, const LayerOptions& options,
                                            const std::shared_ptr<LinearQuantizer>& quantizer);

}  // namespace megatron
