// The model that a GGUF file describes, as a config.json of Hugging Face.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "megatron/convert/gguf_architecture.h"
#include "megatron/formats/gguf_file.h"

namespace megatron {

// What the configuration is made from, of a file or of one that is about to be written.
struct GgufHeader {
  const GgufMetadata& metadata;
  std::map<std::string, std::vector<int64_t>> shapes = {};  // of the tensors, by name
  at::Tensor rope_factors = {};  // rope_freqs.weight; undefined without one
};
GgufHeader header_of_gguf(const GgufFile& file);

// Throws Error, naming it, for metadata of the architecture that are not known or contradict each
// other, and for values that do not work here.
nlohmann::json hf_config_of_gguf(const GgufHeader& header, const GgufArchitecture& architecture);

// What files of Gemma 2 and 3 do not hold and llama.cpp knows: the scores are scaled by
// 1 / sqrt(query scalar), which differs for the models of 27B parameters (known by their number of
// layers), and each `pattern`th layer has no window.
int64_t gemma_query_scalar(const GgufArchitecture& architecture, int64_t layers, int64_t hidden,
                           int64_t heads, int64_t head_dim);
int64_t gemma_window_pattern(const GgufArchitecture& architecture);

// generation_config.json: the ids of special tokens; null without any.
nlohmann::json generation_config_of_gguf(const GgufMetadata& metadata);

}  // namespace megatron
