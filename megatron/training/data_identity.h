// Identifies the training samples of a run and their order, so that a resume with other samples is
// reported.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "megatron/config/options/options.h"
#include "megatron/data/dataset_builder.h"
#include "megatron/data/gpt_dataset_index.h"

namespace megatron {

struct DataIdentity {
  std::string path;       // the files or their blend, or "mock"; empty: unknown
  int64_t documents = 0;  // sequences of the dataset, all splits together
  std::string content;    // checksum of all lengths and of some tokens; empty: unknown
  std::string order;      // checksum of the first samples' documents and order; empty: unknown
  // Options that decide the order. train_iters is 0 for a run of train_samples, and the reverse.
  std::string split;
  int64_t seed = 0, sequence_length = 0, train_iters = 0, train_samples = 0;
};

// Fills documents and content.
DataIdentity identify_data(const LowLevelDataset& data);
std::string order_checksum(const GPTDatasetIndex& index);

// The identity of a run's training split. In a blend, content and order are checksums of those of
// its datasets and of the weights.
DataIdentity identify_training_data(const Options& options, const Datasets& datasets);

nlohmann::json to_json(const DataIdentity& identity);
// Absent fields stay unknown.
DataIdentity data_identity_from_json(const nlohmann::json& json);

// A line that names the differences between the checkpoint's samples and those of this run, and the
// samples that are skipped; empty where they are the same. `consumed_samples` are those of the
// checkpoint.
std::optional<std::string> explain_data_change(const DataIdentity& stored,
                                               const DataIdentity& current,
                                               int64_t consumed_samples);

}  // namespace megatron
