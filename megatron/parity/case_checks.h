// Refuses what a case says in a way that its comparison would not notice: sizes that are no whole
// numbers, results that are missing, inputs of another shape, fields in the wrong place.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "megatron/config/options/options.h"
#include "megatron/formats/safetensors_file.h"

namespace megatron {

// The types and sizes of the fields that are not options. Throws Error naming the field.
void check_case_fields(const nlohmann::json& json);

// The stored inputs and results against those fields. Throws Error naming the tensor.
void check_case_tensors(const nlohmann::json& json, const SafetensorsFile& tensors);

// Sets the fields of the sections transformer_config, gpt_model, optimizer and ddp, each of which
// may hold fields of its own structure only, then those of `resolved`, which may not contradict
// them. Throws Error naming section and field.
void set_case_options(Options& options, const nlohmann::json& json);

}  // namespace megatron
