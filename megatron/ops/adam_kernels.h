// The optimizer kernels' interface: plain pointers. A is float or double, G the gradient's type, C
// the model copy's (A itself where there is none or it is copied later).
#pragma once

#include <cstdint>

#include "megatron/ops/adam.h"

namespace megatron::kernels {

// Scalars of one Adam step, prepared in double.
struct AdamScalars {
  double decay;  // the factor of decoupled decay, 1 - lr * weight_decay
  double l2;     // weight_decay where it is not decoupled
  double beta1, beta2;
  double rate;        // lr / (1 - beta1^step)
  double correction;  // 1 / (1 - beta2^step)
  double eps;
  double grad_scale;
};

// model_copy may be null.
template <typename A, typename G, typename C>
void adam(int64_t count, A* master, A* exp_avg, A* exp_avg_sq, const G* grad, C* model_copy,
          const AdamScalars& scalars);

// buffer may be null (no momentum), model_copy too.
template <typename A, typename G, typename C>
void sgd(int64_t count, A* master, A* buffer, const G* grad, C* model_copy,
         const SgdArguments& arguments);

// Sums of squares over blocks of kNormBlock elements -> block_sums.
inline constexpr int64_t kNormBlock = 16384;
template <typename T>
void block_square_sums(int64_t count, const T* values, double* block_sums);

}  // namespace megatron::kernels
