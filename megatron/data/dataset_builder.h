// Builds the training, validation and test datasets of a run from its options.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "megatron/config/model/training_config.h"
#include "megatron/data/gpt_dataset.h"
#include "megatron/data/low_level_dataset.h"
#include "megatron/data/megatron_dataset.h"
#include "megatron/data/split.h"

namespace megatron {

struct DatasetRequest {
  DataConfig data;
  int64_t sequence_length = 0;
  int64_t seed = 1234;
  // Samples per split; nullopt: one epoch. Megatron's numbers: train_iters * gbs, (train_iters /
  // eval_interval + 1) * eval_iters * gbs, eval_iters * gbs.
  std::array<std::optional<int64_t>, 3> num_samples;
  int64_t vocab_size = 0;             // of the model, before padding; exceeds all ids of the data
  std::optional<int64_t> eod_id;      // the tokenizer's; mock data defaults to vocab_size - 1
  std::string tokenizer_identifiers;  // Tokenizer::identifiers(), or {} without a tokenizer
  // True on the one rank that writes the index files. Let it build first (a barrier): the others
  // map its files, and build in memory only what they do not find.
  bool writes_cache = true;
  std::function<void(const std::string&)> note;  // receives lines about the index files
};

// Null for a split without documents or with num_samples 0.
struct Datasets {
  std::array<std::shared_ptr<const MegatronDataset>, 3> by_split;
  const std::shared_ptr<const MegatronDataset>& train() const { return by_split[0]; }
  const std::shared_ptr<const MegatronDataset>& valid() const { return by_split[1]; }
  const std::shared_ptr<const MegatronDataset>& test() const { return by_split[2]; }

  // The datasets of the training split: one, or those of its blend.
  std::string training_path;             // describe_blend() of the files that were found; "mock"
  std::vector<double> training_weights;  // sum to 1; empty without weights
  std::vector<std::shared_ptr<const LowLevelDataset>> training_documents;
  std::vector<std::shared_ptr<const GPTDataset>> training_parts;
};

// Validation and test data of a blend without weights end with one epoch; the caller repeats them.
// Throws Error for missing or damaged files, a training blend without weights that holds fewer
// samples than asked for, a split without a full sample, and ids beyond the vocabulary in the first
// documents.
Datasets build_datasets(const DatasetRequest& request);

}  // namespace megatron
