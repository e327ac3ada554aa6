// The model of a training run that --load decides.
#pragma once

#include <set>
#include <string>

#include "megatron/config/options/options.h"

namespace megatron {

// Where --load names a folder of another library, or a checkpoint of a model that came from one: sets
// the options of the model to those of that model (adopt_model), so that no flags need to repeat
// them. A folder of another library has weights only: --finetune is then set. `given` are the options
// that the user gave. Elsewhere does nothing. Throws UsageError for flags that contradict the model.
void adopt_loaded_model(Options& options, const std::set<std::string>& given);

}  // namespace megatron
