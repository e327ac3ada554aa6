// Initial weights.
#pragma once

#include "megatron/models/common/language_module.h"

namespace megatron {

// Fills every parameter of a module as its marks say: a function of the seed, the parameter's name
// and the global element, the same in every layout.
void initialize_weights(const MegatronModule& module, uint64_t seed);

// The same, then the copies of a shared embedding. Collective over the embedding group.
void initialize_weights(const LanguageModule& model, uint64_t seed);

}  // namespace megatron
