#include "megatron/data/dataset_builder.h"

#include <numeric>

#include "megatron/base/error.h"
#include "megatron/data/blend.h"
#include "megatron/data/gpt_dataset.h"
#include "megatron/data/gpt_dataset_cache.h"
#include "megatron/data/indexed_dataset.h"
#include "megatron/data/mock_dataset.h"

namespace megatron {
namespace {

constexpr int64_t kProbedTokens = 1 << 20;

// Checks only the first tokens: enough to detect another tokenizer without reading all data.
void check_ids(const LowLevelDataset& data, int64_t vocab_size) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < data.num_sequences() && std::ssize(tokens) < kProbedTokens; ++i) {
    const int64_t count = std::min<int64_t>(data.sequence_length(i), kProbedTokens);
    data.append_tokens(i, 0, count, tokens);
  }
  for (const int64_t token : tokens) {
    check(
        token >= 0 && token < vocab_size,
        "Expected token ids of {} below the vocabulary size {}, but got {}; use the tokenizer that "
        "the data was preprocessed with",
        data.path(), vocab_size, token);
  }
}

std::shared_ptr<const MegatronDataset> build_split(
    const DatasetRequest& request, const std::shared_ptr<const LowLevelDataset>& data, Split split,
    const std::pair<double, double>& shares, std::optional<int64_t> num_samples) {
  GPTDatasetIndexRequest index_request;
  const auto [begin, end] = split_bounds(shares, data->num_sequences());
  index_request.sequences.resize(static_cast<size_t>(end - begin));
  std::iota(index_request.sequences.begin(), index_request.sequences.end(),
            static_cast<int32_t>(begin));
  index_request.sequence_length = request.sequence_length;
  index_request.num_samples = num_samples;
  index_request.seed = request.seed;

  GPTDatasetCacheRequest cache;
  if (!request.data.mock_data) {
    cache.folder = gpt_dataset_cache_folder(request.data.data_cache_path, data->path());
  }
  cache.split = split;
  cache.may_write = request.writes_cache;
  cache.note = request.note;
  cache.description = gpt_dataset_description(
      data->path(), index_request, split, request.data.split,
      request.tokenizer_identifiers.empty() ? "{}" : request.tokenizer_identifiers);
  GPTSampleOptions options;
  options.sequence_length = request.sequence_length;
  options.eod_mask_loss = request.data.eod_mask_loss;
  options.eod_id = request.eod_id;
  return std::make_shared<GPTDataset>(
      data, load_or_build_gpt_dataset_index(*data, index_request, cache), options);
}

std::vector<std::shared_ptr<const LowLevelDataset>> open_data(const DatasetRequest& request,
                                                              const DataBlend& blend) {
  std::vector<std::shared_ptr<const LowLevelDataset>> data;
  if (request.data.mock_data) {
    data.push_back(std::make_shared<MockLowLevelDataset>(
        request.vocab_size, request.eod_id.value_or(request.vocab_size - 1)));
    return data;
  }
  for (const auto& prefix : blend.prefixes) {
    auto indexed = std::make_shared<IndexedDataset>(prefix);
    indexed->require_tokens();
    data.push_back(std::move(indexed));
    check(data.back()->num_sequences() <= std::numeric_limits<int32_t>::max(),
          "Expected fewer than 2^31 documents in {}, but got {}; split the data", prefix,
          data.back()->num_sequences());
    check_ids(*data.back(), request.vocab_size);
  }
  return data;
}

}  // namespace

Datasets build_datasets(const DatasetRequest& request) {
  const SplitMatrix matrix = parse_split(request.data.split);
  const DataBlend blend =
      request.data.mock_data ? DataBlend{} : parse_data_path(request.data.data_path);
  const auto data = open_data(request, blend);
  Datasets datasets;
  for (const Split split : kSplits) {
    const auto s = static_cast<size_t>(split);
    const std::optional<int64_t> samples = request.num_samples[s];
    if (!matrix[s] || samples == 0) continue;
    std::vector<int64_t> counts;
    if (blend.weights && samples) counts = blend_sample_counts(*blend.weights, *samples);
    std::vector<std::shared_ptr<const MegatronDataset>> parts;
    std::vector<int64_t> sizes;
    for (size_t i = 0; i < data.size(); ++i) {
      // Datasets without weights are read for one epoch, whatever the number of samples.
      std::optional<int64_t> count = data.size() == 1 ? samples : std::nullopt;
      if (!counts.empty()) count = counts[i];
      parts.push_back(build_split(request, data[i], split, *matrix[s], count));
      sizes.push_back(parts.back()->size());
    }
    if (parts.size() == 1) {
      datasets.by_split[s] = parts[0];
    } else if (blend.weights && samples) {
      datasets.by_split[s] = std::make_shared<BlendedDataset>(
          std::move(parts), build_blending_indices(*blend.weights, *samples));
    } else {
      datasets.by_split[s] = std::make_shared<BlendedDataset>(
          std::move(parts), build_exhaustive_blending_indices(sizes));
    }
    check(!samples || datasets.by_split[s]->size() >= *samples,
          "Expected {} samples for the {} split, but the datasets hold {} in one epoch; give "
          "weights, so that they are repeated, or request fewer",
          *samples, split_name(split), datasets.by_split[s]->size());
  }
  return datasets;
}

}  // namespace megatron
