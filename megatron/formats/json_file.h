// Reads JSON and text files; errors name the file.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace megatron {

// `what` describes the expected file in errors: "a tokenizer.json". Throws Error.
nlohmann::json read_json_file(const std::string& path, const std::string& what);

// The content of a file. Throws Error.
std::string read_text_file(const std::string& path, const std::string& what);

}  // namespace megatron
