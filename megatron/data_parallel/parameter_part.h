// The elements of a parameter that a rank keeps up to date.
#pragma once

#include <vector>

#include "megatron/base/parameter.h"

namespace megatron {

// Elements [begin, begin + data.numel()) of the flattened local parameter: all of them, or this
// rank's slice of a bucket.
struct ParameterPart {
  ParameterPtr parameter;
  int64_t begin = 0;
  at::Tensor data;       // the values; parameter->data itself where the part is the whole
  at::Tensor main_grad;  // of the same shape
};

// Every parameter whole, as it is.
inline std::vector<ParameterPart> whole_parts(const std::vector<ParameterPtr>& parameters) {
  std::vector<ParameterPart> parts;
  for (const ParameterPtr& parameter : parameters)
    parts.push_back({parameter, 0, parameter->data, parameter->main_grad});
  return parts;
}

}  // namespace megatron
