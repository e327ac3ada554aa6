// Blends several datasets into one, in Megatron's order.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "megatron/data/megatron_dataset.h"

namespace megatron {

struct BlendIndex {
  std::vector<int16_t> dataset_index;         // the dataset of blend sample i
  std::vector<int64_t> dataset_sample_index;  // its sample number in that dataset
};

// `size` samples by weights that sum to 1. Each sample comes from the dataset furthest behind its
// share, the first of equals (Megatron's build_blending_indices).
BlendIndex build_blending_indices(std::span<const double> weights, int64_t size);

// Every sample of datasets of these sizes exactly once, spread evenly
// (build_exhaustive_blending_indices).
BlendIndex build_exhaustive_blending_indices(std::span<const int64_t> sizes);

// --data-path: one prefix; several prefixes, each read once; or weight prefix weight prefix ... An
// even number of words means weights, as in Megatron, unless no word in place of a weight is a number.
// `flag` names the words in messages. Throws Error for invalid weights.
struct DataBlend {
  std::vector<std::string> prefixes;
  std::optional<std::vector<double>> weights;  // sum to 1
};
DataBlend parse_data_path(const std::vector<std::string>& words, const char* flag = "--data-path");

// Samples to request from each dataset for a blend of `samples`: its share, rounded up, plus
// Megatron's surplus of 0.5%.
std::vector<int64_t> blend_sample_counts(std::span<const double> weights, int64_t samples);

class BlendedDataset : public MegatronDataset {
 public:
  // Throws Error if the index refers to more samples than a dataset has.
  BlendedDataset(std::vector<std::shared_ptr<const MegatronDataset>> datasets, BlendIndex index);

  int64_t size() const override { return std::ssize(index_.dataset_index); }
  GPTSample sample(int64_t index) const override;

 private:
  std::vector<std::shared_ptr<const MegatronDataset>> datasets_;
  BlendIndex index_;
};

}  // namespace megatron
