// What a checkpoint keeps of the Hugging Face folder that its model came from, so that an export
// needs no original: the configuration as it was written, the tokenizer's files, and names and
// types of the tensors. It lies in the folder `hf` of the checkpoint.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "megatron/convert/hf_family.h"
#include "megatron/convert/tensor_source.h"

namespace megatron {

inline constexpr char kSourceFolder[] = "hf";

struct SourceRecord {
  std::string model_type;                              // of the family
  nlohmann::json config;                               // config.json
  std::string prefix;                                  // of the tensors' names, as in the files
  at::ScalarType dtype = at::kFloat;                   // of most tensors
  std::map<std::string, at::ScalarType> other_dtypes;  // of tensors of another type, by name
  std::vector<std::string> tied_copies;                // tensors that repeat a tied weight
  std::map<std::string, std::string> files;  // other files by name: tokenizer, generation settings

  at::ScalarType dtype_of(const std::string& tensor) const;
};

// Reads config.json and the other files of a Hugging Face folder; tensors are described later.
SourceRecord read_source_folder(const std::filesystem::path& folder);

// The record in a checkpoint's directory; empty if it has none.
std::optional<SourceRecord> read_source_record(const std::filesystem::path& checkpoint);
// Writes the folder `hf` in `checkpoint`, durably.
void write_source_record(const SourceRecord& record, const std::filesystem::path& checkpoint);

// Names of the files that are carried along unchanged.
bool is_carried_file(const std::string& name);

}  // namespace megatron
