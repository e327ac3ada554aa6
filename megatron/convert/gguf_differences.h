// Whether a GGUF file describes the model that it was written from.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "megatron/config/model/gpt_model_config.h"

namespace megatron {

// The [d / 2] divisors of the rotary frequencies that rope_freqs.weight holds for the model: Llama 3's
// scaling, and longrope with the same divisors for short and long sequences and no scale of the
// tables. None for models with another scaling or without one.
std::optional<std::vector<float>> rope_divisors(const GPTModelConfig& model);

// What the model read back from a file, `file`, has in another way than `model`, as text; empty if
// nothing. Numbers agree within the 32 bits of the file's floating point, scalings with the same
// divisors are the same, and the context length is that of the file.
std::string gguf_differences(const GPTModelConfig& model, GPTModelConfig file);

}  // namespace megatron
