// CPU kernel that draws normal numbers from Philox by Box-Muller, 32 at a time. It has its own
// logarithm, sine and cosine, so that the numbers do not depend on a math library.
#include <algorithm>

#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/random/philox.h"
#include "megatron/ops/random/random_weights_kernels.h"

namespace megatron::kernels {

namespace {

using lanes::Doubles;
using lanes::Longs;
using LongWords = uint64_t __attribute__((vector_size(64)));

// 52 random bits as a number in [0, 1).
MEGATRON_INLINE Doubles unit_interval(LongWords bits) {
  return std::bit_cast<Doubles>((bits >> 12) | 0x3FF0000000000000ull) - 1.0;
}

// ln(x) for normal x in (0, 1], to about 1 ulp: x = m 2^e with m in [sqrt(1/2), sqrt(2)) and
// ln(m) = 2 atanh((m - 1) / (m + 1)) by its series.
MEGATRON_INLINE Doubles log_unit(Doubles x) {
  const LongWords bits = std::bit_cast<LongWords>(x);
  Doubles m = std::bit_cast<Doubles>((bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
  Longs e = std::bit_cast<Longs>(bits >> 52) - 1023;
  const Longs large = m > 1.41421356237309505;
  m = large ? m * 0.5 : m;
  e -= large;  // true is -1
  const Doubles s = (m - 1.0) / (m + 1.0);
  const Doubles z = s * s;
  Doubles p = z * (1.0 / 21) + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  const Doubles exponent = __builtin_convertvector(e, Doubles);
  return exponent * 0.693147180559945309 + (s + s * z * p) * 2.0;
}

// cos and sin of 2 pi x for x in [0, 1): reduced to at most an eighth of a turn, then Taylor
// polynomials.
MEGATRON_INLINE void turn(Doubles x, Doubles& cosine, Doubles& sine) {
  constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  const Doubles shifted = x * 4.0 + magic;
  const Longs quarter = std::bit_cast<Longs>(shifted) & 3;
  const Doubles a = (x * 4.0 - (shifted - magic)) * 1.57079632679489662;
  const Doubles z = a * a;
  Doubles c = z * (-1.0 / 6402373705728000.0) + 1.0 / 20922789888000.0;
  c = c * z - 1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600.0;
  c = c * z - 1.0 / 3628800.0;
  c = c * z + 1.0 / 40320.0;
  c = c * z - 1.0 / 720.0;
  c = c * z + 1.0 / 24.0;
  c = c * z - 0.5;
  c = c * z + 1.0;
  Doubles s = z * (1.0 / 355687428096000.0) - 1.0 / 1307674368000.0;
  s = s * z + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800.0;
  s = s * z + 1.0 / 362880.0;
  s = s * z - 1.0 / 5040.0;
  s = s * z + 1.0 / 120.0;
  s = s * z - 1.0 / 6.0;
  s = s * z * a + a;
  const Longs odd = (quarter & 1) != 0;
  cosine = odd ? s : c;
  sine = odd ? c : s;
  cosine = (quarter == 1) | (quarter == 2) ? -cosine : cosine;
  sine = quarter >= 2 ? -sine : sine;
}

// The 32 numbers of one group, with standard deviation 1.
void normal_group(uint64_t key, uint64_t group, double* out) {
  alignas(64) uint32_t word[4][16];
  const uint64_t first = group * 16;  // the low half does not overflow inside a group
  philox4x32_10_lanes<16>(static_cast<uint32_t>(first), static_cast<uint32_t>(first >> 32), 0, 0,
                          static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), word[0],
                          word[1], word[2], word[3]);
  for (int half = 0; half < 16; half += 8) {
    LongWords radius_bits, angle_bits;
    for (int i = 0; i < 8; ++i) {
      radius_bits[i] = static_cast<uint64_t>(word[0][half + i]) << 32 | word[1][half + i];
      angle_bits[i] = static_cast<uint64_t>(word[2][half + i]) << 32 | word[3][half + i];
    }
    const Doubles radius = lanes::sqrt(log_unit(1.0 - unit_interval(radius_bits)) * -2.0);
    Doubles cosine, sine;
    turn(unit_interval(angle_bits), cosine, sine);
    lanes::store<double>(out + half, radius * cosine);
    lanes::store<double>(out + 16 + half, radius * sine);
  }
}

}  // namespace

template <KernelLevel level, typename T>
void normal_elements(uint64_t key, int64_t first, int64_t count, double std, T* out) {
  alignas(64) double group[32];
  for (int64_t done = 0; done < count;) {
    const int64_t element = first + done;
    const int64_t skip = element % 32;
    const int64_t size = std::min<int64_t>(32 - skip, count - done);
    normal_group(key, static_cast<uint64_t>(element / 32), group);
    if (size == 32) {
      for (int i = 0; i < 32; ++i) out[done + i] = static_cast<T>(group[i] * std);
    } else {
      for (int64_t i = 0; i < size; ++i) out[done + i] = static_cast<T>(group[skip + i] * std);
    }
    done += size;
  }
}

template void normal_elements<kKernelLevel>(uint64_t, int64_t, int64_t, double, float*);
template void normal_elements<kKernelLevel>(uint64_t, int64_t, int64_t, double, double*);
template void normal_elements<kKernelLevel>(uint64_t, int64_t, int64_t, double, c10::BFloat16*);
template void normal_elements<kKernelLevel>(uint64_t, int64_t, int64_t, double, c10::Half*);

}  // namespace megatron::kernels
