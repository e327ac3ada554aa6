#include "megatron/training/training_data.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/data/dataset_builder.h"
#include "megatron/data/sampler.h"

namespace megatron {
namespace {

// Samples needed of each split, as Megatron counts them; 0 where it is never read.
std::array<std::optional<int64_t>, 3> samples_needed(const TrainingConfig& training,
                                                     int64_t global_batch) {
  const int64_t trained = training.train_samples.value_or(training.train_iters * global_batch);
  if (training.eval_interval == 0) return {trained, 0, 0};
  const int64_t evaluations = training.train_iters / training.eval_interval + 1;
  return {trained, evaluations * training.eval_iters * global_batch,
          training.eval_iters * global_batch};
}

}  // namespace

TrainingData::TrainingData(const Options& options, const Tokenizer* tokenizer,
                           const ProcessGroupCollection& groups, at::Device device,
                           bool reads_tokens, const std::function<void(const std::string&)>& note)
    : groups_(groups),
      device_(device),
      micro_batch_size_(options.batch.micro_batch_size),
      vocab_size_(*options.model.vocab_size),
      sequence_length_(options.model.seq_length),
      batch_sizes_(options.batch, groups.dp->size()),
      reads_tokens_(reads_tokens) {
  // The first rank fills the index cache before the others read it. Mock data has no cache.
  const bool opens_first = groups.world->rank() == 0 || options.data.mock_data;
  if (reads_tokens_ && opens_first) open_splits(options, tokenizer, note);
  groups.world->barrier();
  if (reads_tokens_ && !opens_first) open_splits(options, tokenizer, note);
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
                               const std::function<void(const std::string&)>& note) {
  const bool first = groups_.world->rank() == 0;
  DatasetRequest request;
  request.data = options.data;
  request.sequence_length = options.model.seq_length;
  request.seed = options.training.seed;
  request.num_samples = samples_needed(options.training, batch_sizes_.final_batch_size());
  request.vocab_size = *options.model.vocab_size;
  request.eod_id = tokenizer != nullptr ? tokenizer->eod() : std::nullopt;
  request.tokenizer_identifiers = tokenizer != nullptr ? tokenizer->identifiers() : "{}";
  request.writes_cache = first;
  if (first) request.note = note;
  Datasets datasets = build_datasets(request);
  datasets_ = datasets.by_split;
  path_ = datasets.training_path;
  if (first) identity_ = identify_training_data(options, datasets);
}

std::vector<MicroBatch> TrainingData::global_batch(Split split, int64_t consumed_samples,
                                                   int64_t batch_size) const {
  const int64_t at_once = micro_batch_size_ * groups_.dp->size();
  std::vector<MicroBatch> microbatches;
  for (int64_t i = 0; i < divide(batch_size, at_once, "the global batch size"); ++i) {
    const std::vector<int64_t> ordinals = batch_sample_indices(
        consumed_samples + i * at_once, micro_batch_size_, groups_.dp->rank(), groups_.dp->size());
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
