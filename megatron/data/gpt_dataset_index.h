// Megatron's three indices of a GPT dataset: documents in shuffled order, where each sample begins
// in them, and the order of the samples. Pure functions; gpt_dataset_cache.h keeps their results in
// files.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "megatron/data/low_level_dataset.h"

namespace megatron {

struct GPTDatasetIndexRequest {
  std::vector<int32_t> sequences;      // the split: which sequences of the data, ascending
  int64_t sequence_length = 0;         // tokens a sample yields
  std::optional<int64_t> num_samples;  // at least so many; one epoch where not given
  int64_t seed = 1234;
  bool add_extra_token =
      true;  // a sample reads sequence_length + 1 tokens, the last only as a label
  bool drop_last_partial_sequence = true;
};

using SampleStart = std::array<int32_t, 2>;  // entry of the document index, token offset in it

// Views of the indices; the memory behind them (vectors or mapped files) lives as long as
// `storage`.
struct GPTDatasetIndex {
  std::span<const int32_t> document_index;    // sequence numbers, one run of the split an epoch
  std::span<const SampleStart> sample_index;  // samples + 1
  std::span<const uint32_t> shuffle_index;    // sample i of the dataset is sample shuffle_index[i]
  std::shared_ptr<const void> storage;
};

// How often the split is read, and whether its last, partial reading is shuffled by itself.
struct EpochPlan {
  int64_t tokens_per_epoch = 0;
  int64_t num_epochs = 1;
  bool separate_final_epoch = false;
  int64_t samples_before_final_epoch = 0;  // used where separate_final_epoch
};

// Follows GPTDataset._get_num_tokens_per_epoch and _get_num_epochs. Throws Error for a split
// without tokens enough for one sample.
EpochPlan plan_epochs(const LowLevelDataset& data, const GPTDatasetIndexRequest& request);

// Follows GPTDataset._build_document_sample_shuffle_indices: one numpy RandomState(seed), documents
// first.
GPTDatasetIndex build_gpt_dataset_index(const LowLevelDataset& data,
                                        const GPTDatasetIndexRequest& request);

}  // namespace megatron
