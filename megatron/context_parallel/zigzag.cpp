#include "megatron/context_parallel/zigzag.h"

#include <vector>

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {

at::Tensor zigzag_positions(const SequenceSplit& split, int rank) {
  const at::Tensor offsets =
      split.cu_seqlens.defined() ? split.cu_seqlens : at::tensor({int64_t{0}, split.length});
  const int64_t* offset = offsets.const_data_ptr<int64_t>();
  const int64_t chunks = 2 * split.size;
  std::vector<int64_t> positions;
  for (int64_t sequence = 0; sequence + 1 < offsets.numel(); ++sequence) {
    const int64_t length = offset[sequence + 1] - offset[sequence];
    check(length % chunks == 0,
          "Expected a sequence length divisible by {} (2 x context parallel {}), but got {}; {} "
          "works: pad the sequence{}",
          chunks, split.size, length, (length / chunks + 1) * chunks,
          split.cu_seqlens.defined() ? ", and give cu_seqlens_q_padded" : "");
    for (const int64_t chunk : {int64_t{rank}, chunks - 1 - rank}) {
      const int64_t first = offset[sequence] + chunk * (length / chunks);
      for (int64_t i = 0; i < length / chunks; ++i) positions.push_back(first + i);
    }
  }
  return at::tensor(positions, at::kLong);
}

at::Tensor gathered_positions(const SequenceSplit& split) {
  std::vector<at::Tensor> by_rank;
  for (int rank = 0; rank < split.size; ++rank) by_rank.push_back(zigzag_positions(split, rank));
  return at::cat(by_rank);
}

at::Tensor inverse_permutation(const at::Tensor& permutation) {
  const at::Tensor order = at::arange(permutation.numel(), at::kLong);
  return at::empty_like(permutation).index_copy_(0, permutation, order);
}

}  // namespace megatron
