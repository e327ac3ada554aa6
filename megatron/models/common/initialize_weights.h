// Initial weights.
#pragma once

#include "megatron/models/common/language_module.h"

namespace megatron {

// Initializes every parameter of a module by its Parameter::initialization. Values depend on the
// seed, the parameter's name and the global element index, so they are the same in every layout.
void initialize_weights(const MegatronModule& module, uint64_t seed);

// Initializes a model and synchronizes the copies of a shared embedding. Collective over the
// embedding group.
void initialize_weights(const LanguageModule& model, uint64_t seed);

}  // namespace megatron
