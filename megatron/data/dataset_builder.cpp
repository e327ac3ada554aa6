#include "megatron/data/dataset_builder.h"

#include <numeric>

#include "megatron/base/error.h"
#include "megatron/data/data_sources.h"
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

// The documents of a split: all of a dataset's, or its share by --split.
struct SplitOfData {
  Split split = Split::train;
  std::pair<double, double> shares = {0, 1};
  std::string text;  // --split; empty for data that is used whole
  std::optional<int64_t> num_samples;
};

std::shared_ptr<const GPTDataset> build_part(const DatasetRequest& request,
                                             const std::shared_ptr<const LowLevelDataset>& data,
                                             const SplitOfData& part) {
  GPTDatasetIndexRequest index_request;
  const auto [begin, end] = split_bounds(part.shares, data->num_sequences());
  index_request.sequences.resize(static_cast<size_t>(end - begin));
  std::iota(index_request.sequences.begin(), index_request.sequences.end(),
            static_cast<int32_t>(begin));
  index_request.sequence_length = request.sequence_length;
  index_request.num_samples = part.num_samples;
  index_request.seed = request.seed;

  GPTDatasetCacheRequest cache;
  // Mock data has no folder of its own.
  if (!request.data.mock_data || !request.data.data_cache_path.empty())
    cache.folder = gpt_dataset_cache_folder(request.data.data_cache_path, data->path());
  cache.split = part.split;
  cache.may_write = request.writes_cache;
  cache.note = request.note;
  cache.description = gpt_dataset_description(
      data->path(), index_request, part.split, part.text,
      request.tokenizer_identifiers.empty() ? "{}" : request.tokenizer_identifiers);
  GPTSampleOptions options;
  options.sequence_length = request.sequence_length;
  options.eod_mask_loss = request.data.eod_mask_loss;
  options.eod_id = request.eod_id;
  return std::make_shared<GPTDataset>(
      data, load_or_build_gpt_dataset_index(*data, index_request, cache), options);
}

using Documents = std::vector<std::shared_ptr<const LowLevelDataset>>;

Documents open_mock_documents(const DatasetRequest& request) {
  return {std::make_shared<MockLowLevelDataset>(request.vocab_size,
                                                request.eod_id.value_or(request.vocab_size - 1))};
}

Documents open_documents(const DatasetRequest& request, const DataBlend& blend) {
  Documents documents;
  for (const auto& prefix : blend.prefixes) {
    auto indexed = std::make_shared<IndexedDataset>(prefix, request.data.mmap_bin_files);
    indexed->require_tokens();
    documents.push_back(std::move(indexed));
    check(documents.back()->num_sequences() <= std::numeric_limits<int32_t>::max(),
          "Expected fewer than 2^31 documents in {}, but got {}; split the data", prefix,
          documents.back()->num_sequences());
    check_ids(*documents.back(), request.vocab_size);
  }
  return documents;
}

// Whether the split has documents. A blend takes samples from each of its datasets.
bool has_documents(const Documents& documents, const SplitOfData& part) {
  size_t empty = 0;
  std::string path;
  for (const auto& data : documents) {
    const auto [begin, end] = split_bounds(part.shares, data->num_sequences());
    if (begin < end) continue;
    ++empty;
    path = data->path();
  }
  check(empty == 0 || empty == documents.size(),
        "Expected documents for the {} split in every dataset of the blend, but --split {} leaves "
        "none of {}; give that split a larger share, or 0",
        split_name(part.split), part.text, path);
  return empty == 0;
}

void build_split(const DatasetRequest& request, const DataBlend& blend, const Documents& documents,
                 SplitOfData part, Datasets& datasets) {
  const std::optional<int64_t> samples = part.num_samples;
  if (samples == 0 || !has_documents(documents, part)) return;
  // Megatron reads a single dataset by its number of samples, whatever its weight in a split.
  const bool single = documents.size() == 1 && (!blend.weights || part.text.empty());
  std::vector<int64_t> counts;
  if (blend.weights && samples && !single) counts = blend_sample_counts(*blend.weights, *samples);
  std::vector<std::shared_ptr<const MegatronDataset>> parts;
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < documents.size(); ++i) {
    // Datasets without weights are read for one epoch, whatever the number of samples.
    part.num_samples = single ? samples : std::nullopt;
    if (!counts.empty()) part.num_samples = counts[i];
    const auto built = build_part(request, documents[i], part);
    if (part.split == Split::train) datasets.training_parts.push_back(built);
    parts.push_back(built);
    sizes.push_back(built->size());
  }
  auto& result = datasets.by_split[static_cast<size_t>(part.split)];
  if (parts.size() == 1) {
    result = parts[0];
  } else if (blend.weights && samples) {
    result = std::make_shared<BlendedDataset>(std::move(parts),
                                              build_blending_indices(*blend.weights, *samples));
  } else {
    result = std::make_shared<BlendedDataset>(std::move(parts),
                                              build_exhaustive_blending_indices(sizes));
  }
  check(!samples || part.split != Split::train || result->size() >= *samples,
        "Expected {} samples for the {} split, but the datasets hold {} in one epoch; give "
        "weights, so that they are repeated, or request fewer",
        samples.value_or(0), split_name(part.split), result->size());
}

void describe_training(DataBlend blend, const Documents& documents, Datasets& datasets) {
  blend.prefixes.clear();
  for (const auto& data : documents) blend.prefixes.push_back(data->path());
  datasets.training_documents = documents;
  datasets.training_path = describe_blend(blend);
  datasets.training_weights = blend.weights.value_or(std::vector<double>());
}

}  // namespace

Datasets build_datasets(const DatasetRequest& request) {
  const DataSources sources = read_data_sources(request.data);
  Datasets datasets;
  if (request.data.mock_data || sources.all) {
    const DataBlend blend = sources.all.value_or(DataBlend());
    const Documents documents =
        request.data.mock_data ? open_mock_documents(request) : open_documents(request, blend);
    describe_training(blend, documents, datasets);
    const SplitMatrix matrix = parse_split(request.data.split);
    for (const Split split : kSplits) {
      const auto s = static_cast<size_t>(split);
      if (!matrix[s]) continue;
      build_split(request, blend, documents,
                  {split, *matrix[s], request.data.split, request.num_samples[s]}, datasets);
    }
    return datasets;
  }
  for (const Split split : kSplits) {
    const auto s = static_cast<size_t>(split);
    const std::optional<DataBlend>& blend = sources.by_split[s];
    if (!blend) continue;
    const Documents documents = open_documents(request, *blend);
    if (split == Split::train) describe_training(*blend, documents, datasets);
    build_split(request, *blend, documents, {split, {0, 1}, "", request.num_samples[s]}, datasets);
  }
  return datasets;
}

}  // namespace megatron
