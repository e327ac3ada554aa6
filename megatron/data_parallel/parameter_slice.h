// The elements of a parameter that a rank updates.
#pragma once

#include <vector>

#include "megatron/base/parameter.h"

namespace megatron {

// Elements [begin, begin + data.numel()) of the flattened local parameter: all of them, or those in
// this rank's shard. Only a full parameter and whole rows have the parameter's dimensions; other
// slices are flat.
struct ParameterSlice {
  ParameterPtr parameter;
  int64_t begin = 0;
  at::Tensor data;       // the values; parameter->data itself for a full parameter
  at::Tensor main_grad;  // of the same shape
};

// One slice for each parameter, with all of its elements.
inline std::vector<ParameterSlice> full_slices(const std::vector<ParameterPtr>& parameters) {
  std::vector<ParameterSlice> slices;
  for (const ParameterPtr& parameter : parameters)
    slices.push_back({parameter, 0, parameter->data, parameter->main_grad});
  return slices;
}

}  // namespace megatron
