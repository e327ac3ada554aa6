// Writes a Hugging Face folder from the shards of all ranks, without gathering the model: each rank
// writes its rectangles into the files. The folder appears under its name when it is complete.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "megatron/convert/export_weights.h"
#include "megatron/convert/source_record.h"

namespace megatron {

struct HfFolderOptions {
  bool replace = false;  // an existing folder; it is removed when the new one is complete
  int64_t max_shard_bytes = int64_t{5} << 30;  // of a file, unless one tensor is larger
};

// The record of an export: that of the model's source, with the configuration as the model now is, or
// one of the first family that can express the model. `dtype` is that of a model without a source.
// Throws Error for a model that no family expresses.
SourceRecord export_record(const std::optional<SourceRecord>& source, const GPTModelConfig& model,
                           at::ScalarType dtype);

// Collective over `world`; all ranks must see the folder, which must not exist or be empty. Tied
// weights are written as the record says. On failure every rank throws Error, and nothing is left
// behind.
void write_hf_folder(const std::filesystem::path& folder, const SourceRecord& record,
                     const TensorMap& map, const ParameterValues& values, const ProcessGroup& world,
                     const HfFolderOptions& options = {});

}  // namespace megatron
