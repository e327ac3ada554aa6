// Single-threaded GEMM of small blocks, the building block of fused operators: C = A B or C += A B
// with A [m, k] and B [k, n] of type T and C [m, n] of T's accumulation type. Runs on libtorch's
// brgemm (oneDNN's micro-kernels for AMX, AVX-512 or AVX2, chosen at run time) where the machine
// supports it, otherwise on plain loops. Its interface has no tensors, so kernel files can call it.
//
// Matrices are row-major with leading dimensions in elements, except a bf16 B: it is packed in
// pairs of rows, [k/2][ldb][2], the order in which dot-product instructions read it, and k is even.
// brgemm generates code for each shape on each thread, so callers should use few shapes.
#pragma once

#include <cstdint>

#include "megatron/ops/core/accumulation_type.h"
#include "megatron/ops/core/kernel_level.h"

namespace megatron {

// C += A B if `accumulate`, else C = A B. T is float, double or BFloat16.
template <typename T>
void block_gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
                lanes::accumulation_t<T>* c, int64_t ldc, bool accumulate);

// Whether bf16 runs on the processor's bf16 instructions. Without these it is exact but slow.
bool has_fast_bf16_gemm();

// Releases the matrix unit's state. Each thread calls it after its last block_gemm.
void block_gemm_release();

namespace kernels {
// The plain loops, on every machine.
template <KernelLevel level, typename T>
void portable_gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
                   int64_t ldb, lanes::accumulation_t<T>* c, int64_t ldc, bool accumulate);
}  // namespace kernels

}  // namespace megatron
