// rope_freqs.weight of GGUF files: [d / 2] divisors of the rotary frequencies, in which the file
// stores Llama 3's scaling.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "megatron/transformer/rotary_embedding.h"

namespace megatron {

// The divisors for a head of `head_dim` features.
std::vector<float> rope_factors(const Llama3Scaling& scaling, double theta, int64_t head_dim);

// Parameters that give these divisors, which do not determine all of them; those of Llama 3
// (low 1, high 4) are preferred. None if there are none.
std::optional<Llama3Scaling> fit_llama3_scaling(const std::vector<float>& factors, double theta);

}  // namespace megatron
