// Fixtures and temporary files of the data tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <unistd.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tests/temporary_folder.h"

namespace megatron {

inline std::string golden_path(const std::string& name) {
  return std::string(TEST_DATA_DIR) + "/data/" + name;
}

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void spill(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline nlohmann::json golden(const std::string& name) {
  return nlohmann::json::parse(slurp(golden_path(name)));
}

}  // namespace megatron
