// Bit-exact versions of two numpy generators that determine Megatron's data order: the legacy
// RandomState (MT19937), which shuffles, and default_rng (PCG64), which draws mock document
// lengths.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <utility>

namespace megatron {

// numpy.random.RandomState(seed), 0 <= seed < 2^32.
class NumpyRandomState {
 public:
  explicit NumpyRandomState(int64_t seed);

  // RandomState.shuffle of a one-dimensional array: Fisher-Yates from the end.
  template <typename T>
  void shuffle(std::span<T> values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[draw_below(i)]);
  }

 private:
  // 0 <= result < bound, by rejection: draws as many bits as bound - 1 has until the value fits.
  uint64_t draw_below(uint64_t bound);

  std::mt19937 generator_;
};

// numpy.random.default_rng(seed), 0 <= seed < 2^32.
class NumpyGenerator {
 public:
  explicit NumpyGenerator(uint32_t seed);

  // integers(low, high, dtype=int32): low <= result < high.
  int32_t integer(int32_t low, int32_t high);

 private:
  __extension__ using Uint128 = unsigned __int128;

  uint64_t next64();
  uint32_t next32();

  Uint128 state_ = 0;
  Uint128 increment_ = 0;
  bool has_high_half_ = false;
  uint32_t high_half_ = 0;
};

}  // namespace megatron
