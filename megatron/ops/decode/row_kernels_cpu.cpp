#include "megatron/ops/core/vector_math.h"
#include "megatron/ops/decode/row_kernels.h"

namespace megatron::kernels {

template <KernelLevel level, typename Out>
void normalize_row(bool centred, int64_t h, const float* x, const float* weight, const float* bias,
                   float epsilon, Out* y) {
  if (weight == nullptr) {
    lanes::for_each_vector<float>(h, [&](int64_t i, auto count) {
      lanes::store<Out>(y + i, lanes::load<float>(x + i, count), count);
    });
    return;
  }
  float mean = 0;
  if (centred) {
    lanes::Floats sum = {};
    lanes::for_each_vector<float>(
        h, [&](int64_t i, auto count) { sum += lanes::load<float>(x + i, count); });
    mean = lanes::sum_lanes(sum) / static_cast<float>(h);
  }
  lanes::Floats squares = {};
  lanes::for_each_vector<float>(h, [&](int64_t i, auto count) {
    const lanes::Floats centre = lanes::load<float>(x + i, count, mean) - mean;
    squares += centre * centre;
  });
  const float variance = lanes::sum_lanes(squares) / static_cast<float>(h);
  const float factor = 1.0f / __builtin_sqrtf(variance + epsilon);
  lanes::for_each_vector<float>(h, [&](int64_t i, auto count) {
    lanes::Floats value =
        (lanes::load<float>(x + i, count) - mean) * factor * lanes::load<float>(weight + i, count);
    if (bias != nullptr) value += lanes::load<float>(bias + i, count);
    lanes::store<Out>(y + i, value, count);
  });
}

template <KernelLevel level>
void rotate_row(bool interleaved, int64_t rotated, const float* cos, const float* sin, float* x) {
  const int64_t half = rotated / 2;
  for (int64_t i = 0; i < half; ++i) {
    const int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
    const float a = x[first], b = x[second];
    x[first] = a * cos[first] - b * sin[first];
    x[second] = b * cos[second] + a * sin[second];
  }
}

template <KernelLevel level, typename X>
void scale_row(int64_t h, float scale, const X* x, bool add, float* y) {
  lanes::for_each_vector<float>(h, [&](int64_t i, auto count) {
    lanes::Floats value = lanes::load<X>(x + i, count) * scale;
    if (add) value += lanes::load<float>(y + i, count);
    lanes::store<float>(y + i, value, count);
  });
}

template <KernelLevel level>
float read_floats(const float* values, int64_t count) {
  lanes::Floats sum[4] = {};
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    for (int v = 0; v < 4; ++v) sum[v] += lanes::load(values + i + 16 * v);
  }
  float total = lanes::sum_lanes(sum[0] + sum[1] + sum[2] + sum[3]);
  for (; i < count; ++i) total += values[i];
  return total;
}

#define MEGATRON_INSTANTIATE(Out)                                                           \
  template void normalize_row<kKernelLevel, Out>(bool, int64_t, const float*, const float*, \
                                                 const float*, float, Out*);                \
  template void scale_row<kKernelLevel, Out>(int64_t, float, const Out*, bool, float*);
MEGATRON_INSTANTIATE(float)
MEGATRON_INSTANTIATE(c10::BFloat16)
#undef MEGATRON_INSTANTIATE
template void scale_row<kKernelLevel, c10::Half>(int64_t, float, const c10::Half*, bool, float*);
template void rotate_row<kKernelLevel>(bool, int64_t, const float*, const float*, float*);
template float read_floats<kKernelLevel>(const float*, int64_t);

}  // namespace megatron::kernels
