// The tables that rotary position embedding multiplies with, cut to the positions of a pass.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

struct RotaryTable {
  at::Tensor cos, sin;  // [s, rotary dimension], in the wider of fp32 and the parameters' dtype

  bool defined() const { return cos.defined(); }
};

}  // namespace megatron
