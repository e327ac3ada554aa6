#include "megatron/data/blend.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr double kSurplus = 0.005;

void check_number_of_datasets(size_t datasets) {
  check(datasets > 0 && datasets <= std::numeric_limits<int16_t>::max(),
        "Expected 1 to {} datasets in a blend, but got {}", std::numeric_limits<int16_t>::max(),
        datasets);
}

// Each weight divided by the sum, as numpy does.
std::vector<double> normalised(std::vector<double> weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

// Draws `size` samples, each from the dataset whose count is furthest behind weight x samples so
// far. `remaining`: samples left in each dataset; empty if unlimited.
BlendIndex draw_by_weight(std::span<const double> weights, int64_t size,
                          std::vector<int64_t> remaining) {
  BlendIndex index;
  std::vector<int64_t> counts(weights.size());
  for (int64_t taken = 0; taken < size; ++taken) {
    const auto so_far = static_cast<double>(std::max<int64_t>(taken, 1));
    size_t chosen = weights.size();
    double largest = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      if (!remaining.empty() && remaining[i] == 0) continue;
      const double behind = weights[i] * so_far - static_cast<double>(counts[i]);
      if (chosen == weights.size() || behind > largest) {
        chosen = i;
        largest = behind;
      }
    }
    index.dataset_index.push_back(static_cast<int16_t>(chosen));
    index.dataset_sample_index.push_back(counts[chosen]++);
    if (!remaining.empty()) --remaining[chosen];
  }
  return index;
}

std::optional<double> as_number(const std::string& word) {
  char* rest = nullptr;
  const double number = std::strtod(word.c_str(), &rest);
  if (word.empty() || *rest != '\0') return std::nullopt;
  return number;
}

// An even number of words of which the first is a prefix: no other may be a weight.
void check_no_weights(const std::vector<std::string>& words, const char* flag) {
  for (size_t i = 0; i < words.size(); i += 2) {
    check(
        !as_number(words[i]),
        "Expected {} PREFIX ... or WEIGHT PREFIX ..., but got the prefix '{}' and the weight '{}'",
        flag, words[0], words[i]);
  }
}

}  // namespace

BlendIndex build_blending_indices(std::span<const double> weights, int64_t size) {
  check_number_of_datasets(weights.size());
  return draw_by_weight(weights, size, {});
}

BlendIndex build_exhaustive_blending_indices(std::span<const int64_t> sizes) {
  check_number_of_datasets(sizes.size());
  const int64_t total = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  std::vector<double> weights;
  for (const int64_t size : sizes) {
    weights.push_back(static_cast<double>(size) / static_cast<double>(total));
  }
  return draw_by_weight(weights, total, {sizes.begin(), sizes.end()});
}

DataBlend parse_data_path(const std::vector<std::string>& words, const char* flag) {
  check(!words.empty(), "Expected {}, but got none; give the prefix of a .bin and .idx file", flag);
  DataBlend blend;
  if (words.size() % 2 == 1) {
    blend.prefixes = words;
    return blend;
  }
  std::vector<double> weights;
  for (size_t i = 0; i < words.size(); i += 2) {
    const std::optional<double> number = as_number(words[i]);
    if (!number) {
      // An even number of prefixes without weights.
      check(i == 0, "Expected {} WEIGHT PREFIX ..., but got the weight '{}'", flag, words[i]);
      check_no_weights(words, flag);
      blend.prefixes = words;
      return blend;
    }
    const double weight = *number;
    check(weight > 0 && std::isfinite(weight), "Expected {} with weights above 0, but got '{}'",
          flag, words[i]);
    weights.push_back(weight);
    blend.prefixes.push_back(words[i + 1]);
  }
  blend.weights = normalised(std::move(weights));
  return blend;
}

std::vector<int64_t> blend_sample_counts(std::span<const double> weights, int64_t samples) {
  std::vector<int64_t> counts;
  for (const double weight : weights) {
    const double share = std::ceil(static_cast<double>(samples) * weight);
    counts.push_back(static_cast<int64_t>(std::ceil(share * (1 + kSurplus))));
  }
  return counts;
}

BlendedDataset::BlendedDataset(std::vector<std::shared_ptr<const MegatronDataset>> datasets,
                               BlendIndex index)
    : datasets_(std::move(datasets)), index_(std::move(index)) {
  std::vector<int64_t> needed(datasets_.size());
  for (size_t i = 0; i < index_.dataset_index.size(); ++i) {
    int64_t& most = needed.at(static_cast<size_t>(index_.dataset_index[i]));
    most = std::max(most, index_.dataset_sample_index[i] + 1);
  }
  for (size_t i = 0; i < needed.size(); ++i) {
    check(
        needed[i] <= datasets_[i]->size(),
        "Expected at least {} samples in dataset {} of the blend, but it has {}; give it a smaller "
        "weight",
        needed[i], i, datasets_[i]->size());
  }
}

GPTSample BlendedDataset::sample(int64_t index) const {
  check(index >= 0 && index < size(), "Expected a sample below {}, but got {}", size(), index);
  const auto i = static_cast<size_t>(index);
  return datasets_[static_cast<size_t>(index_.dataset_index[i])]->sample(
      index_.dataset_sample_index[i]);
}

}  // namespace megatron
