// The random function of dropout, shared by the CPU and CUDA kernels.
#pragma once

#include <cmath>
#include <cstdint>

#include "megatron/ops/random/philox.h"

namespace megatron {

// The Philox key of a sample's stream.
MEGATRON_HOST_DEVICE inline constexpr uint64_t dropout_stream(uint64_t seed, int64_t layer,
                                                              int32_t site,
                                                              int64_t sample_ordinal) {
  uint64_t key = mix64(seed);
  key = mix64(key ^ static_cast<uint64_t>(layer));
  key = mix64(key ^ static_cast<uint64_t>(static_cast<uint32_t>(site)));
  return mix64(key ^ static_cast<uint64_t>(sample_ordinal));
}

// Elements whose word is below the threshold are dropped: p in units of 2^-32.
inline uint32_t dropout_threshold(double p) {
  const double threshold = std::nearbyint(p * 4294967296.0);
  return threshold >= 4294967295.0 ? 4294967295u : static_cast<uint32_t>(threshold);
}

// The random word of an element; dropout.h defines the counter.
MEGATRON_HOST_DEVICE inline uint32_t dropout_word(uint64_t stream, uint32_t head, uint32_t position,
                                                  uint32_t column) {
  uint32_t word[4] = {column / 64 * 16 + column % 16, position, head, 0};
  philox4x32_10_words(word[0], word[1], word[2], word[3], static_cast<uint32_t>(stream),
                      static_cast<uint32_t>(stream >> 32));
  return word[column % 64 / 16];
}

}  // namespace megatron
