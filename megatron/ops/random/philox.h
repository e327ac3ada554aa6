// The counter-based generator Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011) and the hashes that produce its keys. Stateless: equal arguments
// give equal numbers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#if defined(__CUDACC__)
#define MEGATRON_HOST_DEVICE __host__ __device__
#else
#define MEGATRON_HOST_DEVICE
#endif

namespace megatron {

inline constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
inline constexpr uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
inline constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;
inline constexpr int kPhiloxRounds = 10;

// Ten rounds on four words, in place.
MEGATRON_HOST_DEVICE inline void philox4x32_10_words(uint32_t& c0, uint32_t& c1, uint32_t& c2,
                                                     uint32_t& c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kPhiloxMultiplier0) * c0;
    const uint64_t product1 = static_cast<uint64_t>(kPhiloxMultiplier1) * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(product0);
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
}

inline std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  philox4x32_10_words(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return counter;
}

// Blocks of consecutive counters (first + i, c1, c2, c3) with one key, in a form that compilers
// vectorise. word_j[i] is word j of block i. `first + lanes` must not overflow.
template <int lanes>
inline void philox4x32_10_lanes(uint32_t first, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                                uint32_t k1, uint32_t* __restrict__ word0,
                                uint32_t* __restrict__ word1, uint32_t* __restrict__ word2,
                                uint32_t* __restrict__ word3) {
  for (int i = 0; i < lanes; ++i) {
    uint32_t a = first + static_cast<uint32_t>(i), b = c1, c = c2, d = c3;
    philox4x32_10_words(a, b, c, d, k0, k1);
    word0[i] = a;
    word1[i] = b;
    word2[i] = c;
    word3[i] = d;
  }
}

// A bijection on 64 bits in which every input bit affects all output bits (the finaliser of
// SplitMix64; Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
MEGATRON_HOST_DEVICE inline constexpr uint64_t mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// The key of a named stream: FNV-1a (64 bits) of the name, mixed with the seed.
inline constexpr uint64_t hash_name(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char character : name) {
    hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001B3ull;
  }
  return mix64(mix64(seed) ^ hash);
}

}  // namespace megatron
