// Refuses errors in a case that the comparison would not notice: sizes that are not integers,
// missing results, inputs of the wrong shape, fields in the wrong section.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "megatron/config/options/options.h"
#include "megatron/formats/safetensors_file.h"

namespace megatron {

// Checks types and ranges of the fields that are not options. Throws Error naming the field.
void check_case_fields(const nlohmann::json& json);

// Checks stored inputs and results against those fields. Throws Error naming the tensor.
void check_case_tensors(const nlohmann::json& json, const SafetensorsFile& tensors);

// Sets the options of the sections transformer_config, gpt_model, optimizer and ddp, then those of
// `resolved`. Throws Error naming section and field where a section holds a field of another
// structure, or where `resolved` contradicts the sections.
void set_case_options(Options& options, const nlohmann::json& json);

}  // namespace megatron
