// SIMD vectors by GCC's and Clang's vector extensions, conversions between storage and accumulation
// types, and the elementary functions of the kernels. Only kernel files (*_cpu.cpp) include it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/kernel_level.h"

namespace megatron::lanes {
inline namespace MEGATRON_KERNEL_LEVEL {

#define MEGATRON_INLINE inline __attribute__((always_inline))

// Vectors of 64 bytes, 16 floats or 8 doubles; compilers split them on narrower processors.
using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using HalfWords = uint16_t __attribute__((vector_size(32)));
using Doubles = double __attribute__((vector_size(64)));
using Longs = int64_t __attribute__((vector_size(64)));

template <typename A>
struct Traits;
template <>
struct Traits<float> {
  using Vector = Floats;
  using Mask = Ints;
  static constexpr int width = 16;
};
template <>
struct Traits<double> {
  using Vector = Doubles;
  using Mask = Longs;
  static constexpr int width = 8;
};
// By storage type: bf16 and fp16 are computed as 16 floats.
template <typename T>
using Vector = typename Traits<accumulation_t<T>>::Vector;
template <typename T>
inline constexpr int width = Traits<accumulation_t<T>>::width;

template <typename T>
MEGATRON_INLINE Vector<T> broadcast(accumulation_t<T> value) {
  return Vector<T>{} + value;
}

// Converts fp16 by its bits, since compilers turn a vector conversion into 16 scalar ones. Exact;
// the multiplication moves the exponent's bias from 15 to 127 and makes subnormals normal.
MEGATRON_INLINE Floats widen_half(HalfWords halves) {
  const Words bits = __builtin_convertvector(halves, Words);
  const Words magnitude = (bits & 0x7FFFu) << 13;
  const Floats value = std::bit_cast<Floats>(magnitude) * 0x1p112f;
  const Words special = std::bit_cast<Words>(value) | 0x7F800000u;  // infinity and NaN
  const Words wide = magnitude >= 0x0F800000u ? special : std::bit_cast<Words>(value);
  return std::bit_cast<Floats>(wide | ((bits & 0x8000u) << 16));
}

// Rounds to nearest, ties to even; 65520 and above become infinity, NaN stays NaN.
MEGATRON_INLINE HalfWords narrow_to_half(Floats value) {
  const Words bits = std::bit_cast<Words>(value);
  const Words magnitude = bits & 0x7FFFFFFFu;
  Words normal = (magnitude + 0xFFFu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
  normal = magnitude >= 0x47800000u ? Words{} + 0x7C00u : normal;
  normal = magnitude > 0x7F800000u ? Words{} + 0x7E00u : normal;
  // Below 2^-14: the last bit of the sum is the half's last bit, 2^-24.
  const Words subnormal =
      std::bit_cast<Words>(std::bit_cast<Floats>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  const Words half = magnitude < 0x38800000u ? subnormal : normal;
  return __builtin_convertvector(half | ((bits >> 16) & 0x8000u), HalfWords);
}

template <typename T>
MEGATRON_INLINE Vector<T> load(const T* from) {
  if constexpr (std::is_same_v<T, c10::Half>) {
    HalfWords halves;
    std::memcpy(&halves, from, sizeof(halves));
    return widen_half(halves);
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    HalfWords halves;
    std::memcpy(&halves, from, sizeof(halves));
    const Words words = __builtin_convertvector(halves, Words) << 16;
    return std::bit_cast<Floats>(words);
  } else {
    Vector<T> value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
}

template <typename T>
MEGATRON_INLINE void store(T* to, Vector<T> value) {
  if constexpr (std::is_same_v<T, c10::Half>) {
    const HalfWords halves = narrow_to_half(value);
    std::memcpy(to, &halves, sizeof(halves));
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    // Rounds to nearest, ties to even; NaN keeps a mantissa bit.
    const Words bits = std::bit_cast<Words>(value);
    Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    rounded = value == value ? rounded : Words{} + 0x7FC0u;
    const HalfWords halves = __builtin_convertvector(rounded, HalfWords);
    std::memcpy(to, &halves, sizeof(halves));
  } else {
    std::memcpy(to, &value, sizeof(value));
  }
}

// Loads the first `count` lanes; the others become `fill`. A constant count of `width` is load().
template <typename T>
MEGATRON_INLINE Vector<T> load(const T* from, int64_t count, accumulation_t<T> fill = 0) {
  if (count == width<T>) return load(from);
  T buffer[width<T>];
  for (int i = 0; i < width<T>; ++i) buffer[i] = i < count ? from[i] : static_cast<T>(fill);
  return load<T>(buffer);
}

template <typename T>
MEGATRON_INLINE void store(T* to, Vector<T> value, int64_t count) {
  if (count == width<T>) return store(to, value);
  T buffer[width<T>];
  store(buffer, value);
  for (int i = 0; i < width<T> && i < count; ++i) to[i] = buffer[i];
}

// Calls body(first, count) for all elements of a row: full vectors with a constant count, then the
// remainder.
template <typename T, typename Body>
MEGATRON_INLINE void for_each_vector(int64_t size, const Body& body) {
  int64_t i = 0;
  for (; i + width<T> <= size; i += width<T>) body(i, std::integral_constant<int64_t, width<T>>());
  if (i < size) body(i, size - i);
}

template <typename V>
MEGATRON_INLINE V maximum(V a, V b) {
  return a > b ? a : b;
}

// Lane i becomes lane i ^ distance.
MEGATRON_INLINE Floats exchange(Floats value, int distance) {
  constexpr Ints ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return __builtin_shuffle(value, ramp ^ distance);
}
MEGATRON_INLINE Doubles exchange(Doubles value, int distance) {
  constexpr Longs ramp = {0, 1, 2, 3, 4, 5, 6, 7};
  return __builtin_shuffle(value, ramp ^ static_cast<int64_t>(distance));
}

// Sum and maximum of the lanes, reduced in a fixed tree.
template <typename V>
MEGATRON_INLINE auto sum_lanes(V value) {
  constexpr int count = sizeof(V) / sizeof(value[0]);
  if constexpr (count == 16) value += exchange(value, 8);
  value += exchange(value, 4);
  value += exchange(value, 2);
  value += exchange(value, 1);
  return value[0];
}

template <typename V>
MEGATRON_INLINE auto max_lanes(V value) {
  constexpr int count = sizeof(V) / sizeof(value[0]);
  if constexpr (count == 16) value = maximum(value, exchange(value, 8));
  value = maximum(value, exchange(value, 4));
  value = maximum(value, exchange(value, 2));
  value = maximum(value, exchange(value, 1));
  return value[0];
}

// exp to about 1 ulp; 0 below -86.6 (where results would be subnormal), infinity above 88.72; NaN
// stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) by the Taylor polynomial of degree 7
// (error 5e-9).
MEGATRON_INLINE Floats exp(Floats x) {
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Floats shifted = x * 1.44269504088896341f + magic;
  const Floats n = shifted - magic;
  Floats r = x - n * 0.693359375f;
  r = r - n * -2.12194440054690583e-4f;
  Floats p = r * 1.98412698e-4f + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2 * 2^(n-1), so that n = 128 does not overflow before the multiplication.
  const Words exponent = std::bit_cast<Words>(shifted) - std::bit_cast<uint32_t>(magic) + 126u;
  Floats result = p * std::bit_cast<Floats>(exponent << 23) * 2.0f;
  result = x < -86.6f ? Floats{} : result;
  return x > 88.7228394f ? Floats{} + INFINITY : result;
}

MEGATRON_INLINE Doubles exp(Doubles x) {
  for (int i = 0; i < 8; ++i) x[i] = std::exp(x[i]);
  return x;
}

// 2^x to about 1 ulp for x <= 127; 0 below -126 (where results would be subnormal) and for
// -infinity. 2^r for |r| <= 1/2 by the polynomial of degree 6 through its Chebyshev nodes (error
// 3e-9).
MEGATRON_INLINE Floats exp2(Floats x) {
  constexpr float magic = 12582912.0f;  // as in exp
  const Floats shifted = x + magic;
  const Floats r = x - (shifted - magic);
  Floats p = r * 1.54614447e-4f + 1.34004282e-3f;
  p = p * r + 9.61805668e-3f;
  p = p * r + 5.55032723e-2f;
  p = p * r + 2.40226509e-1f;
  p = p * r + 6.93147207e-1f;
  p = p * r + 1.0f;
  const Words scaled = std::bit_cast<Words>(p) + (std::bit_cast<Words>(shifted) << 23);
  return x < -126.0f ? Floats{} : std::bit_cast<Floats>(scaled);
}

MEGATRON_INLINE Doubles exp2(Doubles x) {
  for (int i = 0; i < 8; ++i) x[i] = std::exp2(x[i]);
  return x;
}

// Through memory, since the compiler turns the loop over an array into one instruction.
MEGATRON_INLINE Floats sqrt(Floats x) {
  float buffer[16];
  std::memcpy(buffer, &x, sizeof(x));
  for (float& value : buffer) value = __builtin_sqrtf(value);
  std::memcpy(&x, buffer, sizeof(x));
  return x;
}

MEGATRON_INLINE Doubles sqrt(Doubles x) {
  double buffer[8];
  std::memcpy(buffer, &x, sizeof(x));
  for (double& value : buffer) value = __builtin_sqrt(value);
  std::memcpy(&x, buffer, sizeof(x));
  return x;
}

// tanh to about 2 ulp: its Taylor polynomial of degree 9 where |x| < 0.3, else 1 - 2 / (1 + e^2x).
MEGATRON_INLINE Floats tanh(Floats x) {
  const Floats square = x * x;
  Floats p = square * 2.18694885e-2f - 5.39682540e-2f;
  p = p * square + 1.33333333e-1f;
  p = p * square - 3.33333333e-1f;
  const Floats near = x + x * square * p;
  const Floats far = 1.0f - 2.0f / (1.0f + exp(x + x));
  return square < 0.09f ? near : far;
}

MEGATRON_INLINE Doubles tanh(Doubles x) {
  for (int i = 0; i < 8; ++i) x[i] = std::tanh(x[i]);
  return x;
}

template <typename V>
MEGATRON_INLINE V sigmoid(V x) {
  return 1 / (1 + exp(-x));
}

// The normal distribution's lower tail Phi(-z) for z >= 0, given e = exp(-z^2 / 2): e * t * P(t)
// with t = 1 / (1 + 0.3 z), P the Chebyshev fit of degree 9 on 0 <= z <= 14 (relative error 5e-9).
MEGATRON_INLINE Floats normal_tail(Floats z, Floats e) {
  const Floats t = 1.0f / (1.0f + 0.3f * z);
  Floats p = t * -0.0209143597f + 0.114040272f;
  p = p * t - 0.232038483f;
  p = p * t + 0.196940677f;
  p = p * t - 0.083742549f;
  p = p * t + 0.0984807402f;
  p = p * t + 0.0775890644f;
  p = p * t + 0.11040518f;
  p = p * t + 0.119551763f;
  p = p * t + 0.119687693f;
  return e * t * p;
}

// The normal distribution: phi(x) * sqrt(2 pi) = exp(-x^2 / 2) and Phi(x). Both tails keep their
// relative accuracy, unlike with 1 + erf(x / sqrt(2)).
MEGATRON_INLINE void normal_distribution(Floats x, Floats& density, Floats& cumulative) {
  density = exp(x * x * -0.5f);
  const Floats tail = normal_tail(x < 0 ? -x : x, density);
  cumulative = x < 0 ? tail : 1.0f - tail;
}

MEGATRON_INLINE void normal_distribution(Doubles x, Doubles& density, Doubles& cumulative) {
  for (int i = 0; i < 8; ++i) {
    density[i] = std::exp(-0.5 * x[i] * x[i]);
    cumulative[i] = 0.5 * std::erfc(-x[i] * M_SQRT1_2);
  }
}

}  // namespace MEGATRON_KERNEL_LEVEL
}  // namespace megatron::lanes
