// Interfaces of the linear layers in a layer's slots: specs choose the class.
#pragma once

#include "megatron/base/megatron_module.h"

namespace megatron {

class LinearQuantizer;

// A layer whose products may be in low precision.
class QuantizableLayer {
 public:
  virtual ~QuantizableLayer() = default;
  // Null where the layer computes in high precision.
  const std::shared_ptr<LinearQuantizer>& quantizer() const { return quantizer_; }

 protected:
  std::shared_ptr<LinearQuantizer> quantizer_;
};

// A linear layer whose output features are partitioned over the tensor-parallel group. It may
// normalize its input first.
class ColumnLinear : public MegatronModule, public QuantizableLayer {
 public:
  struct Output {
    at::Tensor output;
    at::Tensor normed;  // the normalized input of a layer that normalizes, else undefined
  };

  // [s, b, in], or [s/tp, b, in] with sequence parallelism -> [s, b, out/tp].
  virtual at::Tensor forward(const at::Tensor& input) const = 0;
  virtual Output forward_with_normed(const at::Tensor& input) const {
    return {forward(input), at::Tensor()};
  }
  // The input of the matmul: `input`, normalized by a layer that normalizes.
  virtual at::Tensor normalized(const at::Tensor& input) const { return input; }

  virtual const ParameterPtr& weight() const = 0;
  // This rank's shard of the bias, in the dtype of the output, or an undefined tensor.
  virtual at::Tensor bias() const = 0;
};

// A linear layer whose input features are partitioned over the tensor-parallel group.
class RowLinear : public MegatronModule, public QuantizableLayer {
 public:
  // [s, b, in/tp] -> [s, b, out], or [s/tp, b, out] with sequence parallelism. Does not add the
  // bias: the caller fuses it into the next operator.
  virtual at::Tensor forward(const at::Tensor& input) const = 0;

  // In the dtype of the output, or an undefined tensor.
  virtual at::Tensor bias() const = 0;
};

}  // namespace megatron
