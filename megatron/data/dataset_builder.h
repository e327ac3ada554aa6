// From the data flags to the three datasets of a run.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "megatron/config/model/training_config.h"
#include "megatron/data/megatron_dataset.h"
#include "megatron/data/split.h"

namespace megatron {

struct DatasetRequest {
  DataConfig data;  // data_path, split, data_cache_path, mock_data, eod_mask_loss
  int64_t sequence_length = 0;
  int64_t seed = 1234;
  // Samples that each split must hold; none: one epoch. By the field's rule (Megatron): train_iters
  // * gbs, (train_iters / eval_interval + 1) * eval_iters * gbs, eval_iters * gbs.
  std::array<std::optional<int64_t>, 3> num_samples;
  int64_t vocab_size = 0;         // of the model before padding; the data's ids must be below it
  std::optional<int64_t> eod_id;  // the tokenizer's; mock data takes vocab_size - 1 without one
  std::string tokenizer_identifiers;  // Tokenizer::identifiers(), or {} without a tokenizer
  // Index caches are written by one rank; the others read them, or build in memory what is not
  // there. Where ranks share files, let that rank build first (a barrier), so that the others need
  // not.
  bool writes_cache = true;
  std::function<void(const std::string&)> note;  // a line about caches
};

// A split without weight, or with num_samples 0, has none.
struct Datasets {
  std::array<std::shared_ptr<const MegatronDataset>, 3> by_split;
  const std::shared_ptr<const MegatronDataset>& train() const { return by_split[0]; }
  const std::shared_ptr<const MegatronDataset>& valid() const { return by_split[1]; }
  const std::shared_ptr<const MegatronDataset>& test() const { return by_split[2]; }
};

// Throws Error on files that are missing or damaged, a split that holds no sample, ids beyond the
// vocabulary in the first documents.
Datasets build_datasets(const DatasetRequest& request);

}  // namespace megatron
