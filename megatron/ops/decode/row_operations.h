// The row kernels of decode (row_kernels.h) at this processor's level.
#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

namespace megatron {

// A norm of rows: LayerNorm if `centred`, else RMSNorm. Without a weight y = x; bias may be null.
struct RowNorm {
  bool centred = false;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float epsilon = 0;
};

// y = norm(x) of a row [h]. y may be x.
void normalize_row(const RowNorm& norm, int64_t h, const float* x, float* y);
void normalize_row(const RowNorm& norm, int64_t h, const float* x, c10::BFloat16* y);

// Rotates the first `rotated` features of x [d] in place, as kernels::rotate_row.
void rotate_row(bool interleaved, int64_t rotated, const float* cos, const float* sin, float* x);

// y = scale * x, or y += scale * x if `add`, of a row [h].
void scale_row(int64_t h, float scale, const float* x, bool add, float* y);
void scale_row(int64_t h, float scale, const c10::BFloat16* x, bool add, float* y);
void scale_row(int64_t h, float scale, const c10::Half* x, bool add, float* y);

}  // namespace megatron
