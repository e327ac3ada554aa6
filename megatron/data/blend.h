// Several datasets as one, in the order of Megatron's blends.
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
  std::vector<int16_t> dataset_index;         // which dataset sample i comes from
  std::vector<int64_t> dataset_sample_index;  // and which sample of it
};

// `size` samples by weights that add up to 1: each step takes from the dataset that is furthest
// behind its share, the first of equals (Megatron's build_blending_indices).
BlendIndex build_blending_indices(std::span<const double> weights, int64_t size);

// Every sample of datasets of these sizes once, spread evenly (build_exhaustive_blending_indices).
BlendIndex build_exhaustive_blending_indices(std::span<const int64_t> sizes);

// --data-path: one prefix; several, used up evenly; or weight prefix weight prefix ... An even
// number of words is read as weights, as in Megatron. Throws Error on weights that are none.
struct DataBlend {
  std::vector<std::string> prefixes;
  std::optional<std::vector<double>> weights;  // add up to 1
};
DataBlend parse_data_path(const std::vector<std::string>& words);

// Samples to ask of each dataset so that a blend of `samples` has enough: the ceiling of its share,
// and 0.5% more (Megatron's surplus).
std::vector<int64_t> blend_sample_counts(std::span<const double> weights, int64_t samples);

class BlendedDataset : public MegatronDataset {
 public:
  // Throws Error where the index asks for more than a dataset has.
  BlendedDataset(std::vector<std::shared_ptr<const MegatronDataset>> datasets, BlendIndex index);

  int64_t size() const override { return std::ssize(index_.dataset_index); }
  GPTSample sample(int64_t index) const override;

 private:
  std::vector<std::shared_ptr<const MegatronDataset>> datasets_;
  BlendIndex index_;
};

}  // namespace megatron
