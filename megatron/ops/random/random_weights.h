// Initial weights as a function of the global element: a shard of a tensor can be drawn alone, and
// every parallel layout draws the same numbers. Not differentiable.
#pragma once

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace megatron {

// Fills `shard`, the block of a tensor of `global_shape` that starts at `global_offset`, with
// numbers from the normal distribution with mean 0 and standard deviation `std`. An element's value
// depends only on the seed, the name and its row-major index in the global tensor: Box-Muller on
// Philox 4x32-10, drawn in fp64, scaled, then cast to the shard's dtype (fp32, fp64, bf16, fp16).
// Any strides, any device. Throws Error if the numbers of dimensions differ or the block is not
// inside the tensor.
void fill_normal(at::Tensor& shard, double std, uint64_t seed, std::string_view global_name,
                 at::IntArrayRef global_shape, at::IntArrayRef global_offset);

namespace reference {
// One element of fill_normal.
double normal_element(double std, uint64_t seed, std::string_view global_name,
                      int64_t global_index);
}  // namespace reference

}  // namespace megatron
