// Finds the rank and the parameter of a gradient that is not finite, before a reduction spreads it.
#pragma once

#include "megatron/data_parallel/parameter_buckets.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// Throws Error if this rank's `gradients`, the elements of a bucket, are not all finite. It names
// the first such parameter and the rank. On a GPU it waits for the gradients.
void check_finite_gradients(const BucketLayout& layout, const at::Tensor& gradients,
                            const ProcessGroup& group);

}  // namespace megatron
