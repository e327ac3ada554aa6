#include "tests/convert/hf_folder.h"

#include <algorithm>
#include <fstream>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "megatron/formats/safetensors_file.h"

namespace megatron {

namespace fs = std::filesystem;

fs::path golden_hf(const std::string& name) {
  return fs::path(TEST_DATA_DIR) / "hf" / name;
}

std::vector<std::string> golden_hf_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden_hf("")))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

nlohmann::json read_json(const fs::path& file) {
  std::ifstream stream(file);
  return nlohmann::json::parse(stream);
}

void write_json(const fs::path& file, const nlohmann::json& json) {
  std::ofstream(file) << json.dump(2) << '\n';
}

std::vector<NamedTensor> read_tensors(const fs::path& file) {
  const SafetensorsFile source = SafetensorsFile::open(file);
  std::vector<NamedTensor> tensors;
  for (const std::string& name : source.names()) tensors.push_back({name, source.tensor(name)});
  return tensors;
}

void copy_model(const std::string& name, const fs::path& target,
                const std::function<void(nlohmann::json& config)>& change_config,
                const std::function<void(std::vector<NamedTensor>& tensors)>& change_tensors) {
  fs::create_directories(target);
  nlohmann::json config = read_json(golden_hf(name) / "config.json");
  if (change_config) change_config(config);
  write_json(target / "config.json", config);
  std::vector<NamedTensor> tensors = read_tensors(golden_hf(name) / "model.safetensors");
  if (change_tensors) change_tensors(tensors);
  write_safetensors(target / "model.safetensors", tensors, {{"format", "pt"}});
}

}  // namespace megatron
