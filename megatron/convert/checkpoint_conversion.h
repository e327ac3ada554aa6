// Conversion between Hugging Face folders and checkpoints, one parameter in memory at a time.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/config/options/options.h"
#include "megatron/convert/source_model.h"

namespace megatron {

// The model of a checkpoint as an export writes it: its source's record as the model now is, the map
// of the tensors, and the configuration, without groups of zeros.
struct ExportedModel {
  SourceRecord record;
  GPTModelConfig config;
  TensorMap map;
};
ExportedModel exported_model(const CheckpointReader& checkpoint);

struct ConvertedModel {
  std::filesystem::path path;  // of the checkpoint or the folder
  int64_t tensors = 0;
  int64_t parameters = 0;
  std::vector<std::string> notes;
};

// The options that a checkpoint of the model stores: those of the model, with the data type of the
// source's weights.
Options options_of_source(const SourceModel& source);

// Writes iteration 0 of a checkpoint in `save`, with the weights in the types of the source and the
// record for a later export. Throws Error as open_source_model and save_checkpoint.
ConvertedModel import_checkpoint(SourceModel& source, const std::filesystem::path& save);

// Writes the folder `output` from a checkpoint (a directory of several: that of the tracker).
// Throws Error for a model that no family expresses, and as write_hf_folder.
ConvertedModel export_checkpoint(const std::filesystem::path& load,
                                 const std::filesystem::path& output);

// Whether two sources hold a tensor of the same type, shape and bits.
bool equal_tensors(TensorSource& left, TensorSource& right, const std::string& name);

// Compares two Hugging Face folders bit for bit: names, types, shapes and values. Throws Error that
// names the tensors that differ. Returns the number of tensors.
int64_t check_equal_tensors(TensorSource& expected, TensorSource& actual,
                            const std::vector<std::string>& ignored_buffers);

}  // namespace megatron
