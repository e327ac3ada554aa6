#include "megatron/convert/source_record.h"

#include <algorithm>

#include "megatron/base/error.h"
#include "megatron/formats/file_io.h"
#include "megatron/formats/json_file.h"
#include "megatron/formats/safetensors_format.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kRecordFile[] = "source.json";

at::ScalarType dtype_from(const json& name, const fs::path& path) {
  const auto dtype = name.is_string() ? safetensors_dtype(name.get<std::string>()) : std::nullopt;
  check(dtype.has_value(), "Expected a data type such as BF16 in {}, but got {}", path.string(),
        name.dump());
  return *dtype;
}

std::map<std::string, std::string> read_carried_files(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && is_carried_file(name))
      files[name] = read_text_file(entry.path());
  }
  return files;
}

}  // namespace

at::ScalarType SourceRecord::dtype_of(const std::string& tensor) const {
  const auto found = other_dtypes.find(tensor);
  return found == other_dtypes.end() ? dtype : found->second;
}

bool is_carried_file(const std::string& name) {
  static const std::vector<std::string> kNames = {"added_tokens.json",
                                                  "chat_template.jinja",
                                                  "chat_template.json",
                                                  "generation_config.json",
                                                  "merges.txt",
                                                  "special_tokens_map.json",
                                                  "spiece.model",
                                                  "tokenizer.json",
                                                  "tokenizer.model",
                                                  "tokenizer.model.v3",
                                                  "tokenizer_config.json",
                                                  "vocab.json",
                                                  "vocab.txt"};
  return std::ranges::find(kNames, name) != kNames.end() || name.ends_with(".tiktoken");
}

SourceRecord read_source_folder(const fs::path& folder) {
  SourceRecord record;
  const fs::path config = folder / "config.json";
  record.config = read_json_file(config.string(), "the config.json of a model");
  const HfFamily& family = find_hf_family(record.config, config.string());
  record.model_type = family.model_type;
  record.prefix = family.prefix;
  record.files = read_carried_files(folder);
  return record;
}

std::optional<SourceRecord> read_source_record(const fs::path& checkpoint) {
  const fs::path folder = checkpoint / kSourceFolder, file = folder / kRecordFile;
  if (!fs::exists(file)) return std::nullopt;
  const json stored = read_json_file(file.string(), "the record of a model's source");
  SourceRecord record;
  try {
    record.model_type = stored.at("model_type").get<std::string>();
    record.prefix = stored.at("prefix").get<std::string>();
    record.dtype = dtype_from(stored.at("dtype"), file);
    for (const auto& [name, dtype] : stored.at("other_dtypes").items())
      record.other_dtypes[name] = dtype_from(dtype, file);
    record.tied_copies = stored.at("tied_copies").get<std::vector<std::string>>();
  } catch (const json::exception& error) {
    fail("Expected the record of a model's source in {}, but got {}", file.string(), error.what());
  }
  record.config = read_json_file((folder / "config.json").string(), "the config.json of a model");
  record.files = read_carried_files(folder);
  return record;
}

void write_source_record(const SourceRecord& record, const fs::path& checkpoint) {
  const fs::path folder = checkpoint / kSourceFolder;
  fs::create_directories(folder);
  json stored = {{"format", "huggingface"},        {"model_type", record.model_type},
                 {"prefix", record.prefix},        {"dtype", safetensors_dtype_name(record.dtype)},
                 {"other_dtypes", json::object()}, {"tied_copies", record.tied_copies}};
  for (const auto& [name, dtype] : record.other_dtypes)
    stored["other_dtypes"][name] = safetensors_dtype_name(dtype);
  write_file_durably(folder / kRecordFile, stored.dump(1) + "\n");
  write_file_durably(folder / "config.json", record.config.dump(2) + "\n");
  for (const auto& [name, text] : record.files) write_file_durably(folder / name, text);
  sync_directory(folder);
}

}  // namespace megatron
