// The choice between libtorch's brgemm and the portable loops.
#include "megatron/ops/matmul/block_gemm.h"

#include <array>
#include <exception>
#include <type_traits>

#include <ATen/Context.h>
#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>

namespace megatron {

namespace {

using at::native::cpublas::brgemm;
using at::native::cpublas::brgemm_release;

template <typename T>
inline constexpr bool kPacksPairs = std::is_same_v<T, c10::BFloat16>;

// Neither libtorch nor oneDNN reports in advance what the machine supports (oneDNN accepts bf16 on
// any AVX-512 and may then find no kernel for it), so a small product is tried.
template <typename T>
bool try_brgemm() {
  constexpr int64_t size = 16;
  std::array<T, size * size> a, b;
  std::array<float, size * size> c, expected;
  for (int64_t i = 0; i < size * size; ++i) {
    a[i] = static_cast<float>(i % 7 - 3);
    b[i] = static_cast<float>(i % 5 - 2);
  }
  with_kernel_level([&](auto level) {
    kernels::portable_gemm<level, T>(size, size, size, a.data(), size, b.data(), size,
                                     expected.data(), size,
                                     /*accumulate=*/false);
  });
  try {
    brgemm(size, size, size, size, size, size, /*add_C=*/false, a.data(), b.data(), c.data(),
           kPacksPairs<T>);
    brgemm_release(kPacksPairs<T>);
  } catch (const std::exception&) {  // c10::Error or oneDNN's error
    return false;
  }
  return c == expected;
}

template <typename T>
bool use_brgemm() {
  if (!at::globalContext().userEnabledMkldnn()) return false;  // can change at any time
  static const bool works = try_brgemm<T>();
  return works;
}

}  // namespace

template <typename T>
void block_gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
                lanes::accumulation_t<T>* c, int64_t ldc, bool accumulate) {
  if constexpr (!std::is_same_v<T, double>) {
    if (use_brgemm<T>()) {
      return brgemm(m, n, k, lda, ldb, ldc, accumulate, a, b, c, kPacksPairs<T>);
    }
  }
  with_kernel_level([&](auto level) {
    kernels::portable_gemm<level>(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  });
}

#define MEGATRON_INSTANTIATE(T)                                                             \
  template void block_gemm(int64_t, int64_t, int64_t, const T*, int64_t, const T*, int64_t, \
                           lanes::accumulation_t<T>*, int64_t, bool);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

bool has_fast_bf16_gemm() {
#if defined(__x86_64__)
  static const bool has_instructions = __builtin_cpu_supports("avx512bf16") != 0;
  return has_instructions && use_brgemm<c10::BFloat16>();
#else
  return false;
#endif
}

void block_gemm_release() {
  if (use_brgemm<c10::BFloat16>()) brgemm_release(/*is_vnni=*/true);
}

}  // namespace megatron
