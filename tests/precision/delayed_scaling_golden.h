// Delayed scaling against Transformer Engine's default functions.
#pragma once

#include "megatron/formats/safetensors_file.h"

namespace megatron::test {

// Whether the file has sequences of amax and states after each step.
bool has_delayed_scaling(const SafetensorsFile& file);

// Replays all sequences of the file and all casts.
void check_delayed_scaling(const SafetensorsFile& file);

}  // namespace megatron::test
