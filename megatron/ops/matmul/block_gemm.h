// Small matrix products on one thread, the building block of fused operators: C (+)= A B with A
// [m,k] and B [k,n] of type T and C [m,n] of accumulation type. Runs libtorch's brgemm (oneDNN's
// micro-kernels: AMX, AVX-512, AVX2, chosen at run time) where the machine has it, else plain
// loops. No tensors here, so that kernel files can call it.
//
// B of type bf16 is held in pairs of rows, [k/2][ldb][2], as the dot-product instructions read it;
// k is even then. All else is row-major with leading dimensions in elements. brgemm generates code
// once per shape and thread, so callers keep to few shapes.
#pragma once

#include <cstdint>

#include "megatron/ops/core/accumulation_type.h"

namespace megatron {

// accumulate false overwrites C. T one of float, double, BFloat16.
template <typename T>
void block_gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b, int64_t ldb,
                lanes::accumulation_t<T>* c, int64_t ldc, bool accumulate);

// Whether the bf16 products run on the processor's bf16 instructions: without these they are exact
// but slow.
bool has_fast_bf16_gemm();

// To be called by each thread after its last product: gives the matrix unit's state back.
void block_gemm_release();

namespace kernels {
// The plain loops, whatever the machine has.
template <typename T>
void portable_gemm(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* b,
                   int64_t ldb, lanes::accumulation_t<T>* c, int64_t ldc, bool accumulate);
}  // namespace kernels

}  // namespace megatron
