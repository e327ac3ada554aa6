// Megatron's three indices of a GPT dataset: the shuffled documents, the start of each sample in
// them, and the order of the samples. Pure functions; gpt_dataset_cache.h stores their results.
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
  std::vector<int32_t> sequences;      // sequence numbers of the split, ascending
  int64_t sequence_length = 0;         // tokens per sample
  std::optional<int64_t> num_samples;  // lower bound; nullopt: one epoch
  int64_t seed = 1234;
  bool add_extra_token = true;  // one more token per sample, used only as a label
  bool drop_last_partial_sequence = true;
};

using SampleStart = std::array<int32_t, 2>;  // entry of the document index, token offset there

// Views of the indices. `storage` owns the memory: vectors or mapped files.
struct GPTDatasetIndex {
  std::span<const int32_t> document_index;    // sequence numbers, the split once per epoch
  std::span<const SampleStart> sample_index;  // num_samples + 1 entries
  std::span<const uint32_t> shuffle_index;    // sample i starts at sample_index[shuffle_index[i]]
  std::shared_ptr<const void> storage;
};

// The number of epochs, and whether the last, partial epoch is shuffled separately.
struct EpochPlan {
  int64_t tokens_per_epoch = 0;
  int64_t num_epochs = 1;
  bool separate_final_epoch = false;
  int64_t samples_before_final_epoch = 0;  // if separate_final_epoch
};

// Follows GPTDataset._get_num_tokens_per_epoch and _get_num_epochs. Throws Error for a split
// without tokens.
EpochPlan plan_epochs(const LowLevelDataset& data, const GPTDatasetIndexRequest& request);

// Follows GPTDataset._build_document_sample_shuffle_indices: one numpy RandomState(seed) shuffles
// the documents, then the samples. Throws Error for a split that does not fill one sample.
GPTDatasetIndex build_gpt_dataset_index(const LowLevelDataset& data,
                                        const GPTDatasetIndexRequest& request);

}  // namespace megatron
