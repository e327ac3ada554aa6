#include "megatron/data/sampler.h"

#include <numeric>

#include "megatron/base/error.h"

namespace megatron {

std::vector<int64_t> batch_sample_indices(int64_t consumed_samples, int64_t micro_batch_size,
                                          int64_t dp_rank, int64_t dp_size) {
  check(consumed_samples >= 0 && micro_batch_size > 0,
        "Expected consumed samples of at least 0 and a micro-batch size of at least 1, but got {} "
        "and {}",
        consumed_samples, micro_batch_size);
  check(dp_rank >= 0 && dp_rank < dp_size, "Expected a data-parallel rank below {}, but got {}",
        dp_size, dp_rank);
  std::vector<int64_t> indices(static_cast<size_t>(micro_batch_size));
  std::iota(indices.begin(), indices.end(), consumed_samples + dp_rank * micro_batch_size);
  return indices;
}

}  // namespace megatron
