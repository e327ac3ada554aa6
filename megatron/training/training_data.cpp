#include "megatron/training/training_data.h"

#include <numeric>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/config/model/batch_size.h"
#include "megatron/data/gpt_dataset.h"
#include "megatron/data/gpt_dataset_cache.h"
#include "megatron/data/indexed_dataset.h"
#include "megatron/data/mock_dataset.h"
#include "megatron/data/sampler.h"

namespace megatron {
namespace {

// Samples needed of each split, as Megatron counts them; 0 where it is never read.
std::array<int64_t, 3> samples_needed(const TrainingConfig& training, int64_t global_batch) {
  if (training.eval_interval == 0) return {training.train_iters * global_batch, 0, 0};
  const int64_t evaluations = training.train_iters / training.eval_interval + 1;
  return {training.train_iters * global_batch, evaluations * training.eval_iters * global_batch,
          training.eval_iters * global_batch};
}

std::shared_ptr<const LowLevelDataset> open_documents(const Options& options,
                                                      const Tokenizer* tokenizer) {
  const int64_t vocab_size = options.model.vocab_size;
  if (options.data.mock_data) {
    const int64_t eod =
        tokenizer != nullptr ? tokenizer->eod().value_or(vocab_size - 1) : vocab_size - 1;
    return std::make_shared<MockLowLevelDataset>(vocab_size, eod);
  }
  check(options.data.data_path.size() == 1,
        "Expected one prefix for --data-path (blends are not in this version), but got {}",
        options.data.data_path.size());
  auto documents = std::make_shared<IndexedDataset>(options.data.data_path[0]);
  documents->require_tokens();
  return documents;
}

}  // namespace

TrainingData::TrainingData(const Options& options, const Tokenizer* tokenizer,
                           const ProcessGroupCollection& groups, at::Device device,
                           bool reads_tokens, const std::function<void(const std::string&)>& note)
    : groups_(groups),
      device_(device),
      micro_batch_size_(options.batch.micro_batch_size),
      vocab_size_(options.model.vocab_size),
      sequence_length_(options.model.seq_length),
      reads_tokens_(reads_tokens) {
  const int64_t dp = groups.dp->size();
  const int64_t global_batch = megatron::global_batch_size(options.batch, dp);
  num_microbatches_ = divide(global_batch, micro_batch_size_ * dp, "the global batch size");

  // The first rank fills the index cache before the others read it. Mock data has no cache.
  const bool opens_first = groups.world->rank() == 0 || options.data.mock_data;
  if (reads_tokens_ && opens_first) open_splits(options, tokenizer, global_batch, note);
  groups.world->barrier();
  if (reads_tokens_ && !opens_first) open_splits(options, tokenizer, global_batch, note);
  const at::Tensor sizes = at::zeros({3}, at::kLong);
  for (size_t i = 0; i < datasets_.size(); ++i) {
    if (datasets_[i]) sizes[i] = datasets_[i]->size();
  }
  groups.world->broadcast(sizes, /*group_root=*/0);
  for (size_t i = 0; i < sizes_.size(); ++i) sizes_[i] = sizes[i].item<int64_t>();
  check(
      options.training.train_iters == 0 || has(Split::train),
      "Expected training data in the split {}, but its first share is empty; --split 969,30,1 works",
      options.data.split);
}

void TrainingData::open_splits(const Options& options, const Tokenizer* tokenizer,
                               int64_t global_batch,
                               const std::function<void(const std::string&)>& note) {
  const auto documents = open_documents(options, tokenizer);
  path_ = documents->path();
  if (groups_.world->rank() == 0) {
    identity_ = identify_data(*documents);
    identity_.split = options.data.split;
    identity_.seed = options.training.seed;
    identity_.sequence_length = options.model.seq_length;
    identity_.train_iters = options.training.train_iters;
  }
  const GPTSampleOptions sample_options{
      .sequence_length = options.model.seq_length,
      .eod_mask_loss = options.data.eod_mask_loss,
      .eod_id = tokenizer != nullptr ? tokenizer->eod() : std::nullopt,
  };
  const SplitMatrix shares = parse_split(options.data.split);
  const std::array<int64_t, 3> samples = samples_needed(options.training, global_batch);
  const std::string tokenizer_identifiers = tokenizer != nullptr ? tokenizer->identifiers() : "{}";
  const auto build = [&](Split split) {
    const size_t i = static_cast<size_t>(split);
    if (!shares[i] || samples[i] == 0) return;
    const auto [begin, end] = split_bounds(*shares[i], documents->num_sequences());
    if (begin == end) return;
    std::vector<int32_t> sequences(end - begin);
    std::iota(sequences.begin(), sequences.end(), static_cast<int32_t>(begin));
    const GPTDatasetIndexRequest request{.sequences = std::move(sequences),
                                         .sequence_length = options.model.seq_length,
                                         .num_samples = samples[i],
                                         .seed = options.training.seed};
    const bool writes = groups_.world->rank() == 0;
    const GPTDatasetCacheRequest cache{
        .folder = options.data.mock_data
                      ? ""
                      : gpt_dataset_cache_folder(options.data.data_cache_path, documents->path()),
        .description = gpt_dataset_description(documents->path(), request, split,
                                               options.data.split, tokenizer_identifiers),
        .split = split,
        .may_write = writes,
        .note = writes ? note : [](const std::string&) {}};
    GPTDatasetIndex index = load_or_build_gpt_dataset_index(*documents, request, cache);
    if (split == Split::train) identity_.order = order_checksum(index);
    datasets_[i] = std::make_shared<GPTDataset>(documents, std::move(index), sample_options);
  };
  std::ranges::for_each(kSplits, build);
}

std::vector<MicroBatch> TrainingData::global_batch(Split split, int64_t consumed_samples) const {
  const int64_t dp = groups_.dp->size();
  std::vector<MicroBatch> microbatches;
  for (int64_t i = 0; i < num_microbatches_; ++i) {
    const std::vector<int64_t> ordinals = batch_sample_indices(
        consumed_samples + i * micro_batch_size_ * dp, micro_batch_size_, groups_.dp->rank(), dp);
    microbatches.push_back(reads_tokens_
                               ? make_microbatch(*datasets_[static_cast<size_t>(split)], ordinals)
                               : unread_microbatch(ordinals));
  }
  return microbatches;
}

MicroBatch TrainingData::unread_microbatch(const std::vector<int64_t>& ordinals) const {
  MicroBatch batch;
  batch.sample_ordinals = at::tensor(ordinals, at::kLong);
  batch.sequence_length = sequence_length_;
  return batch;
}

MicroBatch TrainingData::make_microbatch(const MegatronDataset& dataset,
                                         const std::vector<int64_t>& ordinals) const {
  const auto rows = static_cast<int64_t>(ordinals.size());
  const GPTSample first = dataset.sample(ordinals[0] % dataset.size());
  const auto s = static_cast<int64_t>(first.tokens.size());
  MicroBatch batch;
  batch.tokens = at::empty({rows, s}, at::kLong);
  batch.labels = at::empty({rows, s}, at::kLong);
  batch.position_ids = at::empty({rows, s}, at::kLong);
  batch.loss_mask = at::empty({rows, s}, at::kFloat);
  batch.sample_ordinals = at::tensor(ordinals, at::kLong);
  for (int64_t row = 0; row < rows; ++row) {
    const GPTSample sample = row == 0 ? first : dataset.sample(ordinals[row] % dataset.size());
    for (const auto* ids : {&sample.tokens, &sample.labels}) {
      const int64_t most = *std::ranges::max_element(*ids);
      check(
          most < vocab_size_,
          "Expected token ids below the vocabulary's {} in {}, but got {}; preprocess it with the "
          "tokenizer of this run, or give its --vocab-size",
          vocab_size_, path_, most);
    }
    std::ranges::copy(sample.tokens, batch.tokens.data_ptr<int64_t>() + row * s);
    std::ranges::copy(sample.labels, batch.labels.data_ptr<int64_t>() + row * s);
    std::ranges::copy(sample.position_ids, batch.position_ids.data_ptr<int64_t>() + row * s);
    std::ranges::copy(sample.loss_mask, batch.loss_mask.data_ptr<float>() + row * s);
  }
  for (at::Tensor* tensor : {&batch.tokens, &batch.labels, &batch.position_ids, &batch.loss_mask}) {
    *tensor = tensor->to(device_);
  }
  return batch;
}

}  // namespace megatron
