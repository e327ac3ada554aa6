// block_gemm in plain loops: tiles of 4 rows by 2 vectors, held in registers.
#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/matmul/block_gemm.h"

namespace megatron::kernels {

namespace {

// Rows of B that are packed together: bf16 packs pairs of rows.
template <typename T>
inline constexpr int64_t kPackedRows = std::is_same_v<T, c10::BFloat16> ? 2 : 1;

template <typename T>
MEGATRON_INLINE void multiply_add(const T* a, int64_t lda, const T* b, int64_t count, int rows,
                                  lanes::Vector<T>* sums, int64_t stride) {
  using A = lanes::accumulation_t<T>;
  if constexpr (kPackedRows<T> == 2) {
    lanes::Words pair = {};
    std::memcpy(&pair, b, count * sizeof(uint32_t));
    const auto even = std::bit_cast<lanes::Floats>(pair << 16);
    const auto odd = std::bit_cast<lanes::Floats>(pair & 0xFFFF0000u);
    for (int i = 0; i < rows; ++i) {
      sums[i * stride] += even * static_cast<A>(a[i * lda]) + odd * static_cast<A>(a[i * lda + 1]);
    }
  } else {
    const lanes::Vector<T> row = lanes::load<T>(b, count);
    for (int i = 0; i < rows; ++i) sums[i * stride] += row * a[i * lda];
  }
}

template <typename T, int rows>
MEGATRON_INLINE void tile(int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
                          lanes::accumulation_t<T>* c, int64_t ldc, bool accumulate) {
  using A = lanes::accumulation_t<T>;
  constexpr int width = lanes::width<T>;
  constexpr int64_t packed_rows = kPackedRows<T>;
  for (int64_t column = 0; column < n; column += 2 * width) {
    const int64_t first = n - column < width ? n - column : width;
    const int64_t second =
        n - column - width < width ? (n - column - width < 0 ? 0 : n - column - width) : width;
    lanes::Vector<T> sums[rows][2] = {};
    for (int64_t i = 0; i < k; i += packed_rows) {
      const T* from = b + i * ldb + column * packed_rows;
      if (second == width) {
        multiply_add<T>(a + i, lda, from, width, rows, &sums[0][0], 2);
        multiply_add<T>(a + i, lda, from + width * packed_rows, width, rows, &sums[0][1], 2);
      } else {
        multiply_add<T>(a + i, lda, from, first, rows, &sums[0][0], 2);
        if (second > 0) {
          multiply_add<T>(a + i, lda, from + width * packed_rows, second, rows, &sums[0][1], 2);
        }
      }
    }
    for (int i = 0; i < rows; ++i) {
      for (int half = 0; half < 2; ++half) {
        const int64_t count = half == 0 ? first : second;
        if (count == 0) continue;
        A* to = c + i * ldc + column + half * width;
        lanes::Vector<T> sum = sums[i][half];
        if (accumulate) sum += lanes::load<A>(to, count);
        lanes::store<A>(to, sum, count);
      }
    }
  }
}

}  // namespace

template <KernelLevel level, typename T>
void portable_gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
                   int64_t ldb, lanes::accumulation_t<T>* c, int64_t ldc, bool accumulate) {
  int64_t row = 0;
  for (; row + 4 <= m; row += 4) {
    tile<T, 4>(n, k, a + row * lda, lda, b, ldb, c + row * ldc, ldc, accumulate);
  }
  for (; row < m; ++row) {
    tile<T, 1>(n, k, a + row * lda, lda, b, ldb, c + row * ldc, ldc, accumulate);
  }
}

#define MEGATRON_INSTANTIATE(T)                                                                    \
  template void portable_gemm<kKernelLevel>(int64_t, int64_t, int64_t, const T*, int64_t,          \
                                            const T*, int64_t, lanes::accumulation_t<T>*, int64_t, \
                                            bool);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(double)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE

}  // namespace megatron::kernels
