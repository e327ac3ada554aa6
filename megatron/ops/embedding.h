// The local part of the vocab-parallel embedding: rows of a weight shard looked up by global ids.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

// weight [v_p,h] holds the rows vocab_start..vocab_start+v_p-1 of the table; ids [b,s] int64,
// global -> [s,b,h] (the layout that the transformer blocks use), zero where an id is not held
// here. Negative ids are an Error (on the CPU; elsewhere they give zeros).
//
// Backward adds the rows' gradients, in the order of the ids, into `main_grad` ([v_p,h],
// contiguous, weight's dtype or its accumulation dtype) where it is defined, and then gives the
// weight no gradient of its own; else it returns a dense gradient.
at::Tensor embedding_lookup(const at::Tensor& weight, const at::Tensor& ids, int64_t vocab_start,
                            const at::Tensor& main_grad);

namespace reference {
// Differentiable; the weight's gradient is returned.
at::Tensor embedding_lookup(const at::Tensor& weight, const at::Tensor& ids, int64_t vocab_start);
}  // namespace reference

}  // namespace megatron
