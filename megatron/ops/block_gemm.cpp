// Which micro-kernel multiplies blocks on this machine.
#include "megatron/ops/block_gemm.h"

#include <array>

#include <ATen/Context.h>
#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>

namespace megatron {

namespace {

using at::native::cpublas::brgemm;
using at::native::cpublas::brgemm_release;

// libtorch has no question for "bf16 pairs without AMX", so one small product is tried.
bool try_bfloat16() {
  constexpr int64_t size = 16;
  std::array<c10::BFloat16, size * size> a, b;
  std::array<float, size * size> c;
  for (int64_t i = 0; i < size * size; ++i) {
    a[i] = static_cast<float>(i % 7 - 3);
    b[i] = static_cast<float>(i % 5 - 2);
  }
  std::array<float, size * size> expected;
  kernels::portable_gemm<c10::BFloat16>(size, size, size, a.data(), size, b.data(), size,
                                        expected.data(), size, /*accumulate=*/false);
  try {
    brgemm(size, size, size, size, size, size, /*add_C=*/false, a.data(), b.data(), c.data(),
           /*is_vnni=*/true);
    brgemm_release(/*is_vnni=*/true);
  } catch (const c10::Error&) {
    return false;
  }
  return c == expected;
}

// A user may switch oneDNN off at any time.
bool use_bfloat16_kernel() {
  if (!at::globalContext().userEnabledMkldnn()) return false;
  static const bool works = try_bfloat16();
  return works;
}

}  // namespace

template <>
void block_gemm(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  if (!at::globalContext().userEnabledMkldnn()) {
    return kernels::portable_gemm(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  }
  brgemm(m, n, k, lda, ldb, ldc, accumulate, a, b, c, /*is_vnni=*/false);
}

template <>
void block_gemm(int64_t m, int64_t n, int64_t k, const c10::BFloat16* a, int64_t lda,
                const c10::BFloat16* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  if (!use_bfloat16_kernel()) {
    return kernels::portable_gemm(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  }
  brgemm(m, n, k, lda, ldb, ldc, accumulate, a, b, c, /*is_vnni=*/true);
}

template <>
void block_gemm(int64_t m, int64_t n, int64_t k, const double* a, int64_t lda, const double* b,
                int64_t ldb, double* c, int64_t ldc, bool accumulate) {
  kernels::portable_gemm(m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

void block_gemm_release() {
  if (use_bfloat16_kernel()) brgemm_release(/*is_vnni=*/true);
}

}  // namespace megatron
