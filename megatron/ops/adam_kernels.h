// The optimizer kernels' interface: plain pointers. A is the dtype of the state (float or double),
// G that of the gradient, C that of the model copy.
#pragma once

#include <cstdint>

#include "megatron/ops/core/kernel_level.h"

namespace megatron::kernels {

// The scalars of an Adam step, computed in double.
struct AdamScalars {
  double decay;  // factor of decoupled weight decay, 1 - lr * weight_decay
  double l2;     // weight_decay if it is not decoupled, else 0
  double beta1, beta2;
  double rate;        // lr / (1 - beta1^step)
  double correction;  // 1 / (1 - beta2^step)
  double eps;
  double grad_scale;
};

// model_copy may be null.
template <KernelLevel level, typename A, typename G, typename C>
void adam(int64_t count, A* master, A* exp_avg, A* exp_avg_sq, const G* grad, C* model_copy,
          const AdamScalars& scalars);

struct SgdScalars {
  double lr;
  double momentum;
  double l2;
  bool first_step;  // buffer = gradient, without reading buffer
  double grad_scale;
};

// buffer may be null (no momentum), and so may model_copy.
template <KernelLevel level, typename A, typename G, typename C>
void sgd(int64_t count, A* master, A* buffer, const G* grad, C* model_copy,
         const SgdScalars& scalars);

// Sums of squares over blocks of kNormBlock elements.
inline constexpr int64_t kNormBlock = 16384;
template <KernelLevel level, typename T>
void block_square_sums(int64_t count, const T* values, double* block_sums);

}  // namespace megatron::kernels
