#include "megatron/models/common/initialize_weights.h"

#include <ATen/ATen.h>

#include "megatron/ops/random/random_weights.h"

namespace megatron {

void initialize_weights(const MegatronModule& module, uint64_t seed) {
  const at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : module.parameters()) {
    if (parameter->initialization.kind == Initialization::Kind::constant) {
      parameter->data.fill_(parameter->initialization.value);
      continue;
    }
    for (const ShardFragment& fragment : parameter->fragments()) {
      at::Tensor view = parameter->fragment_view(parameter->data, fragment);
      fill_normal(view, parameter->initialization.value, seed, parameter->name,
                  parameter->global_shape(), parameter->fragment_offset(fragment));
    }
  }
}

void initialize_weights(const LanguageModule& model, uint64_t seed) {
  initialize_weights(static_cast<const MegatronModule&>(model), seed);
  model.synchronize_shared_embedding();
}

}  // namespace megatron
