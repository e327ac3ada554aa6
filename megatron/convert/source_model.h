// A model in another format, opened to read: its configuration, its tensors, and what they mean here.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/convert/hf_family.h"
#include "megatron/convert/source_record.h"
#include "megatron/convert/tensor_source.h"

namespace megatron {

struct SourceModel {
  SourceRecord record;
  const HfFamily* family = nullptr;
  GPTModelConfig config;  // one rank, seq_length as large as the positions
  std::unique_ptr<TensorSource> tensors;
  TensorMap map;
  std::vector<std::string> notes;  // lines about what is left out
};

// Whether `path` is what open_source_model reads: a GGUF file, or a folder with a config.json that is
// no checkpoint of ours.
bool is_source_model(const std::filesystem::path& path);

// The configuration alone; reads no tensors. Throws Error as open_source_model.
GPTModelConfig read_source_config(const std::filesystem::path& folder);

// Reads configuration and headers. Throws Error for a family that is not known, options that do not
// work, and tensors that do not match the configuration.
SourceModel open_source_model(const std::filesystem::path& folder);

// The same for tensors that another format provides. `record` has the configuration.
SourceModel make_source_model(SourceRecord record, const std::string& path,
                              std::unique_ptr<TensorSource> tensors);

// The map of the model's tensors, with names as the record has them. Throws Error for parameters
// that the family lacks.
TensorMap map_of_record(const SourceRecord& record, const GPTModelConfig& config);

// Fills the shards of a model of the same configuration in any layout.
void load_source_model(SourceModel& source, const ShardedStateDict& state);

}  // namespace megatron
