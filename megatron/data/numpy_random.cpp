#include "megatron/data/numpy_random.h"

#include <array>
#include <bit>

#include "megatron/base/error.h"

namespace megatron {
namespace {

// numpy's SeedSequence for one 32-bit word of entropy: a pool of four words, then eight state
// words.
std::array<uint32_t, 8> seed_words(uint32_t seed) {
  constexpr uint32_t kMixLeft = 0xca01f9dd;
  constexpr uint32_t kMixRight = 0x4973f715;
  uint32_t multiplier = 0x43b0d7e5;
  const auto hash = [&multiplier](uint32_t value) {
    value ^= multiplier;
    multiplier *= 0x931e8875;
    value *= multiplier;
    return value ^ (value >> 16);
  };
  std::array<uint32_t, 4> pool{};
  for (size_t i = 0; i < pool.size(); ++i) pool[i] = hash(i == 0 ? seed : 0);
  for (size_t from = 0; from < pool.size(); ++from) {
    for (size_t to = 0; to < pool.size(); ++to) {
      if (from == to) continue;
      const uint32_t mixed = kMixLeft * pool[to] - kMixRight * hash(pool[from]);
      pool[to] = mixed ^ (mixed >> 16);
    }
  }
  std::array<uint32_t, 8> words{};
  multiplier = 0x8b51f9dd;
  for (size_t i = 0; i < words.size(); ++i) {
    uint32_t value = pool[i % pool.size()] ^ multiplier;
    multiplier *= 0x58f38ded;
    value *= multiplier;
    words[i] = value ^ (value >> 16);
  }
  return words;
}

}  // namespace

NumpyRandomState::NumpyRandomState(int64_t seed) {
  check(seed >= 0 && seed < (int64_t{1} << 32), "Expected a seed from 0 to 2^32 - 1, but got {}",
        seed);
  generator_.seed(static_cast<uint32_t>(seed));
}

uint64_t NumpyRandomState::draw_below(uint64_t bound) {
  const uint64_t largest = bound - 1;
  const uint64_t mask = ~uint64_t{0} >> std::countl_zero(largest);
  while (true) {
    uint64_t value = generator_();
    if (largest > 0xffffffff) value = (value << 32) | generator_();
    value &= mask;
    if (value <= largest) return value;
  }
}

NumpyGenerator::NumpyGenerator(uint32_t seed) {
  const std::array<uint32_t, 8> words = seed_words(seed);
  const auto word64 = [&words](size_t i) { return Uint128{words[2 * i + 1]} << 32 | words[2 * i]; };
  increment_ = (word64(2) << 64 | word64(3)) << 1 | 1;
  // PCG's seeding: step from zero, add the state, step again.
  next64();
  state_ += word64(0) << 64 | word64(1);
  next64();
}

uint64_t NumpyGenerator::next64() {
  constexpr Uint128 kMultiplier = Uint128{0x2360ED051FC65DA4} << 64 | 0x4385DF649FCCF645;
  state_ = state_ * kMultiplier + increment_;
  const auto high = static_cast<uint64_t>(state_ >> 64);
  const auto low = static_cast<uint64_t>(state_);
  return std::rotr(high ^ low, static_cast<int>(high >> 58));
}

uint32_t NumpyGenerator::next32() {
  if (has_high_half_) {
    has_high_half_ = false;
    return high_half_;
  }
  const uint64_t value = next64();
  has_high_half_ = true;
  high_half_ = static_cast<uint32_t>(value >> 32);
  return static_cast<uint32_t>(value);
}

int32_t NumpyGenerator::integer(int32_t low, int32_t high) {
  check(low < high, "Expected a non-empty range of integers, but got [{}, {})", low, high);
  // Lemire's method: the high word of a product, with rejection of the low words that would bias
  // it.
  const auto range = static_cast<uint32_t>(static_cast<int64_t>(high) - low);
  const uint32_t biased = (0u - range) % range;
  while (true) {
    const uint64_t product = uint64_t{next32()} * range;
    if (static_cast<uint32_t>(product) >= biased) {
      return static_cast<int32_t>(low + static_cast<int64_t>(product >> 32));
    }
  }
}

}  // namespace megatron
