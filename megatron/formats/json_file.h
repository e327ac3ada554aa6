// Reads a whole JSON file, with errors that name it.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace megatron {

// `what` says what the file should be: "a tokenizer.json". Throws Error.
nlohmann::json read_json_file(const std::string& path, const std::string& what);

// A whole file as text. Throws Error.
std::string read_text_file(const std::string& path, const std::string& what);

}  // namespace megatron
