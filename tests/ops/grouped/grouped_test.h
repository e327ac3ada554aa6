// Shared by the tests of the grouped operators: counts of rows per expert.
#pragma once

#include <random>
#include <vector>

#include "tests/ops/op_test.h"

namespace megatron::test {

inline at::Tensor counts_tensor(const std::vector<int64_t>& counts) {
  return at::tensor(counts, at::TensorOptions(at::kLong));
}

inline int64_t sum_of(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

// Random loads of experts: none, a few, or many rows.
class RandomCounts {
 public:
  explicit RandomCounts(uint64_t seed) : generator_(seed) {}
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(generator_() % (high - low + 1));
  }
  std::vector<int64_t> counts() {
    std::vector<int64_t> counts(between(1, 6));
    for (int64_t& count : counts) {
      const int64_t kind = between(0, 3);
      count = kind == 0 ? 0 : between(1, kind == 1 ? 4 : kind == 2 ? 30 : 150);
    }
    return counts;
  }

 private:
  std::mt19937_64 generator_;
};

}  // namespace megatron::test
