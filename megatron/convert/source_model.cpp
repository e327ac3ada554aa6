#include "megatron/convert/source_model.h"

#include <algorithm>
#include <map>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/convert/gguf_model.h"
#include "megatron/convert/hf_tensors.h"
#include "megatron/convert/import_weights.h"
#include "megatron/convert/padding_groups.h"
#include "megatron/formats/gguf_file.h"
#include "megatron/formats/json_file.h"

namespace megatron {
namespace {

// The type of most elements.
void record_dtypes(SourceRecord& record, TensorSource& source, const TensorMap& map) {
  std::map<at::ScalarType, int64_t> elements;
  for (const MappedTensor& tensor : map.tensors)
    elements[source.find(tensor.name)->dtype] += shape_volume(tensor.shape);
  record.dtype =
      std::ranges::max_element(elements, {}, [](const auto& entry) { return entry.second; })->first;
  for (const MappedTensor& tensor : map.tensors) {
    const at::ScalarType dtype = source.find(tensor.name)->dtype;
    if (dtype != record.dtype) record.other_dtypes[tensor.name] = dtype;
  }
}

// Files of the bare model lack the prefix of its names.
bool lacks_prefix(TensorSource& source, const TensorMap& map, const std::string& prefix) {
  const std::string& first = map.tensors.front().name;  // the embedding
  return !prefix.empty() && source.find(first) == nullptr && first.starts_with(prefix) &&
         source.find(first.substr(prefix.size())) != nullptr;
}

std::vector<std::string> without_prefix(std::vector<std::string> names, const std::string& prefix) {
  for (std::string& name : names) {
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
  }
  return names;
}

}  // namespace

bool is_source_model(const std::filesystem::path& path) {
  if (GgufFile::is_gguf(path)) return true;
  return std::filesystem::is_regular_file(path / "config.json") &&
         !std::filesystem::exists(path / kIndexFile) &&
         !std::filesystem::exists(path / kTrackerFile);
}

GPTModelConfig read_source_config(const std::filesystem::path& folder) {
  if (GgufFile::is_gguf(folder)) return read_gguf_config(folder);
  const std::string file = (folder / "config.json").string();
  const nlohmann::json config = read_json_file(file, "the config.json of a model");
  return read_hf_config(find_hf_family(config, file), config, file);
}

TensorMap map_of_record(const SourceRecord& record, const GPTModelConfig& config) {
  const HfFamily& family = hf_family(record.model_type);
  const GPTModelConfig source = read_hf_config(family, record.config, "the stored config.json");
  TensorMap map =
      make_tensor_map(family.rows, without_padding_groups(config, source), family.model_type);
  return record.prefix == family.prefix ? map : without_prefix(std::move(map), family.prefix);
}

SourceModel make_source_model(SourceRecord record, const std::string& path,
                              std::unique_ptr<TensorSource> tensors) {
  SourceModel model;
  model.family = &hf_family(record.model_type);
  const std::string& prefix = model.family->prefix;
  model.config = read_hf_config(*model.family, record.config, path, &model.notes);
  model.tensors = std::move(tensors);
  record.prefix = prefix;
  model.map = map_of_record(record, model.config);
  std::vector<std::string> buffers = model.family->buffers;
  if (lacks_prefix(*model.tensors, model.map, prefix)) {
    record.prefix = "";
    model.map = without_prefix(std::move(model.map), prefix);
    buffers = without_prefix(std::move(buffers), prefix);
  }
  SourceCheck found = check_source(*model.tensors, model.map, model.family->rows, buffers);
  record.tied_copies = std::move(found.tied_copies);
  record_dtypes(record, *model.tensors, model.map);
  if (!found.buffers.empty()) {
    model.notes.push_back(fmt::format("left out, since they are computed: {} buffers such as {}",
                                      found.buffers.size(), found.buffers.front()));
  }
  model.record = std::move(record);
  return model;
}

SourceModel open_source_model(const std::filesystem::path& folder) {
  if (GgufFile::is_gguf(folder)) return open_gguf_model(folder);
  return make_source_model(read_source_folder(folder), (folder / "config.json").string(),
                           std::make_unique<HfTensors>(HfTensors::open(folder)));
}

void load_source_model(SourceModel& source, const ShardedStateDict& state) {
  import_weights(*source.tensors, source.map, state);
}

}  // namespace megatron
