// The local part of the vocab-parallel embedding: rows of a weight shard, looked up by global ids.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace megatron {

// weight [v_p, h] holds rows vocab_start .. vocab_start + v_p - 1 of the table; ids [b, s] int64,
// global -> [s, b, h], the layout of the transformer blocks. Ids outside the shard give zeros.
// Negative ids throw Error on the CPU; on other devices they give zeros.
//
// Backward adds the gradients of the rows, in the order of the ids, into `main_grad` where that is
// defined ([v_p, h], contiguous, in weight's dtype or its accumulation dtype), and the weight then
// gets no gradient of its own; otherwise it returns a dense gradient.
at::Tensor embedding_lookup(const at::Tensor& weight, const at::Tensor& ids, int64_t vocab_start,
                            const at::Tensor& main_grad);

// The same lookup composed of libtorch operators; autograd returns the weight gradient.
namespace unfused {
at::Tensor embedding_lookup(const at::Tensor& weight, const at::Tensor& ids, int64_t vocab_start);
}  // namespace unfused

}  // namespace megatron
