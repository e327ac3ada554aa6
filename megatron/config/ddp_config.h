// Data parallelism over contiguous gradient buckets.
#pragma once

#include <cstdint>
#include <optional>

namespace megatron {

struct DistributedDataParallelConfig {
  bool grad_reduce_in_fp32 =
      true;  // main gradients of bf16 parameters are kept and reduced in fp32
  std::optional<int64_t> bucket_size;  // elements; max(40e6, 1e6 * dp) where not given
};

}  // namespace megatron
