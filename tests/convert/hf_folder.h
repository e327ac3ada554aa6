// Hugging Face folders for tests: copies of the golden ones, and small ones of random weights.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/formats/safetensors_writer.h"

#include "tests/temporary_folder.h"

namespace megatron {

// A folder of transformers' results.
std::filesystem::path golden_hf(const std::string& name);
// The names of all of them.
std::vector<std::string> golden_hf_names();

nlohmann::json read_json(const std::filesystem::path& file);
void write_json(const std::filesystem::path& file, const nlohmann::json& json);

// All tensors of a safetensors file, in memory.
std::vector<NamedTensor> read_tensors(const std::filesystem::path& file);

// Copies the files of a golden folder that a model needs to `target`, and lets the caller change the
// configuration and the tensors.
void copy_model(const std::string& name, const std::filesystem::path& target,
                const std::function<void(nlohmann::json& config)>& change_config = {},
                const std::function<void(std::vector<NamedTensor>& tensors)>& change_tensors = {});

}  // namespace megatron
