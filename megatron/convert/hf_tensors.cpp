#include "megatron/convert/hf_tensors.h"

#include <algorithm>
#include <set>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/formats/json_file.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

constexpr char kOneFile[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

// Throws Error unless `name` is that of a file in the folder itself or below it.
void check_stays_inside(const std::string& name, const fs::path& index) {
  const fs::path path = fs::path(name).lexically_normal();
  check(!name.empty() && path.is_relative() && path.begin()->string() != "..",
        "Expected {} to name files of its folder, but got '{}'", index.string(), name);
}

// File names by tensor.
std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const nlohmann::json json = read_json_file(index.string(), "an index of safetensors files");
  check(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(),
        "Expected an object 'weight_map' in {}, but got none", index.string());
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : json["weight_map"].items()) {
    check(file.is_string(), "Expected a file name for '{}' in {}, but got {}", name, index.string(),
          file.dump());
    check_stays_inside(file.get<std::string>(), index);
    files[name] = file.get<std::string>();
  }
  check(!files.empty(), "Expected tensors in 'weight_map' of {}, but got none", index.string());
  return files;
}

std::string first_names(const std::vector<std::string>& names) {
  constexpr size_t kMost = 5;
  std::vector<std::string> shown(names.begin(), names.begin() + std::min(names.size(), kMost));
  const std::string more =
      names.size() > kMost ? fmt::format(" and {} more", names.size() - kMost) : "";
  return fmt::format("{}{}", fmt::join(shown, ", "), more);
}

// What a folder without safetensors files holds, for the message.
std::string other_weights(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") ||
        name.ends_with(".safetensors") || name.ends_with(".gguf"))
      return name;
  }
  return "";
}

}  // namespace

HfTensors HfTensors::open(const fs::path& folder) {
  HfTensors source;
  source.folder_ = folder;
  const fs::path index = folder / kIndex, file = folder / kOneFile;
  if (!fs::exists(index)) {
    const std::string other = fs::exists(file) ? "" : other_weights(folder);
    check(fs::exists(file),
          "Expected {} or {} in {}, but got {}; transformers' save_pretrained writes them",
          kOneFile, kIndex, folder.string(), other.empty() ? "neither" : other);
    source.add_file(file);
    return source;
  }
  const auto listed = read_weight_map(index);
  std::set<std::string> files;
  for (const auto& [name, shard] : listed) files.insert(shard);
  for (const std::string& shard : files) {
    check(fs::exists(folder / shard), "Expected the file {} of {}, but it is missing", shard,
          index.string());
    source.add_file(folder / shard);
  }
  std::vector<std::string> absent, unlisted;
  for (const auto& [name, shard] : listed) {
    const auto found = source.entries_.find(name);
    const bool there = found != source.entries_.end() &&
                       source.files_[found->second.file].path() == folder / shard;
    if (!there) absent.push_back(fmt::format("{} ({})", name, shard));
  }
  for (const auto& [name, entry] : source.entries_) {
    if (!listed.contains(name)) unlisted.push_back(name);
  }
  check(absent.empty(), "Expected the tensors that {} lists, but their files lack {}",
        index.string(), first_names(absent));
  check(unlisted.empty(), "Expected {} to list every tensor of its files, but it lacks {}",
        index.string(), first_names(unlisted));
  return source;
}

void HfTensors::add_file(const fs::path& path) {
  files_.push_back(SafetensorsFile::open(path));
  const SafetensorsFile& file = files_.back();
  for (const std::string& name : file.names()) {
    const SafetensorsEntry& entry = file.entry(name);
    const bool is_new =
        entries_.try_emplace(name, Entry{files_.size() - 1, {entry.shape, entry.dtype}}).second;
    check(is_new, "Expected tensor '{}' in one file of {}, but got it in two", name,
          folder_.string());
  }
}

std::vector<std::string> HfTensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const SourceTensor* HfTensors::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second.tensor;
}

at::Tensor HfTensors::read(const std::string& name, const Rectangle& region) {
  const Entry& entry = entries_.at(name);
  return narrow_to(files_[entry.file].mapped(name), std::vector<int64_t>(region.offset.size(), 0),
                   region);
}

void HfTensors::release(const std::string& name) {
  files_[entries_.at(name).file].release(name);
}

}  // namespace megatron
