#include "megatron/ops/decode/row_operations.h"

#include "megatron/ops/decode/row_kernels.h"

namespace megatron {
namespace {

template <typename Out>
void normalize_at_level(const RowNorm& norm, int64_t h, const float* x, Out* y) {
  with_kernel_level([&](auto level) {
    kernels::normalize_row<decltype(level)::value>(norm.centred, h, x, norm.weight, norm.bias,
                                                   norm.epsilon, y);
  });
}

template <typename X>
void scale_at_level(int64_t h, float scale, const X* x, bool add, float* y) {
  with_kernel_level(
      [&](auto level) { kernels::scale_row<decltype(level)::value>(h, scale, x, add, y); });
}

}  // namespace

void normalize_row(const RowNorm& norm, int64_t h, const float* x, float* y) {
  normalize_at_level(norm, h, x, y);
}
void normalize_row(const RowNorm& norm, int64_t h, const float* x, c10::BFloat16* y) {
  normalize_at_level(norm, h, x, y);
}

void rotate_row(bool interleaved, int64_t rotated, const float* cos, const float* sin, float* x) {
  with_kernel_level([&](auto level) {
    kernels::rotate_row<decltype(level)::value>(interleaved, rotated, cos, sin, x);
  });
}

void scale_row(int64_t h, float scale, const float* x, bool add, float* y) {
  scale_at_level(h, scale, x, add, y);
}
void scale_row(int64_t h, float scale, const c10::BFloat16* x, bool add, float* y) {
  scale_at_level(h, scale, x, add, y);
}
void scale_row(int64_t h, float scale, const c10::Half* x, bool add, float* y) {
  scale_at_level(h, scale, x, add, y);
}

}  // namespace megatron
