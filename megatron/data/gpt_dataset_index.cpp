#include "megatron/data/gpt_dataset_index.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "megatron/base/error.h"
#include "megatron/data/numpy_random.h"

namespace megatron {
namespace {

struct IndexVectors {
  std::vector<int32_t> documents;
  std::vector<SampleStart> samples;
  std::vector<uint32_t> shuffle;
};

std::vector<int32_t> build_document_index(const GPTDatasetIndexRequest& request,
                                          const EpochPlan& plan, NumpyRandomState& random) {
  const int64_t sequences = std::ssize(request.sequences);
  check(sequences <= std::numeric_limits<int32_t>::max() / plan.num_epochs,
        "Expected fewer than 2^31 documents over all epochs, but got {} documents x {} epochs; "
        "split the data into several datasets",
        sequences, plan.num_epochs);
  std::vector<int32_t> documents(static_cast<size_t>(sequences * plan.num_epochs));
  for (int64_t epoch = 0; epoch < plan.num_epochs; ++epoch) {
    std::copy(request.sequences.begin(), request.sequences.end(),
              documents.begin() + epoch * sequences);
  }
  const std::span<int32_t> all(documents);
  if (plan.separate_final_epoch) {
    const auto before = static_cast<size_t>(sequences * (plan.num_epochs - 1));
    random.shuffle(all.first(before));
    random.shuffle(all.subspan(before));
  } else {
    random.shuffle(all);
  }
  return documents;
}

int64_t count_samples(const GPTDatasetIndexRequest& request, const EpochPlan& plan) {
  const int64_t tokens =
      plan.num_epochs * plan.tokens_per_epoch - (request.add_extra_token ? 1 : 0);
  if (request.drop_last_partial_sequence) return tokens / request.sequence_length;
  // Megatron's helper rounds up in float32, which is inexact above 2^24 tokens. Kept, so that its
  // sample order is reproduced.
  const float ratio = static_cast<float>(tokens) / static_cast<float>(request.sequence_length);
  return static_cast<int64_t>(std::ceil(ratio));
}

// Walks the documents in shuffled order and records the start of each sample. With an extra token,
// the last token of a sample is the first of the next one.
std::vector<SampleStart> build_sample_index(const LowLevelDataset& data,
                                            const GPTDatasetIndexRequest& request,
                                            const EpochPlan& plan,
                                            const std::vector<int32_t>& documents) {
  const int64_t extra = request.add_extra_token ? 1 : 0;
  const int64_t samples = count_samples(request, plan);
  std::vector<SampleStart> starts;
  starts.reserve(static_cast<size_t>(samples + 1));
  starts.push_back({0, 0});
  size_t document = 0;
  int64_t offset = 0;
  for (int64_t sample = 0; sample < samples; ++sample) {
    int64_t remaining = request.sequence_length + extra;
    while (remaining != 0) {
      const int64_t length = data.sequence_length(documents[document]);
      const int64_t available = length - offset;
      remaining -= available;
      if (remaining <= 0) {
        offset += remaining + available - extra;
        remaining = 0;
      } else if (document + 1 == documents.size()) {
        offset = length - extra;
        remaining = 0;
      } else {
        ++document;
        offset = 0;
      }
    }
    starts.push_back({static_cast<int32_t>(document), static_cast<int32_t>(offset)});
  }
  return starts;
}

std::vector<uint32_t> build_shuffle_index(size_t samples, const EpochPlan& plan,
                                          NumpyRandomState& random) {
  check(samples < std::numeric_limits<uint32_t>::max() - 1,
        "Expected fewer than 2^32 - 2 samples, but got {}; request fewer, or split the data",
        samples);
  std::vector<uint32_t> order(samples);
  std::iota(order.begin(), order.end(), 0u);
  const std::span<uint32_t> all(order);
  if (plan.separate_final_epoch) {
    const auto before = static_cast<size_t>(plan.samples_before_final_epoch);
    random.shuffle(all.first(before));
    random.shuffle(all.subspan(before));
  } else {
    random.shuffle(all);
  }
  return order;
}

}  // namespace

EpochPlan plan_epochs(const LowLevelDataset& data, const GPTDatasetIndexRequest& request) {
  check(request.sequence_length > 0, "Expected a sequence length above 0, but got {}",
        request.sequence_length);
  const int64_t extra = request.add_extra_token ? 1 : 0;
  EpochPlan plan;
  for (const int32_t sequence : request.sequences) {
    check(sequence >= 0 && sequence < data.num_sequences(),
          "Expected documents of {} below {}, but got {}", data.path(), data.num_sequences(),
          sequence);
    plan.tokens_per_epoch += data.sequence_length(sequence);
  }
  check(plan.tokens_per_epoch > 0,
        "Expected tokens in the {} documents of a split of {}, but all are empty; give this split "
        "a larger share with --split, or add data",
        request.sequences.size(), data.path());
  if (!request.num_samples) return plan;

  const int64_t samples = *request.num_samples;
  check(
      samples >= 0 && samples <= std::numeric_limits<int64_t>::max() / 4 / request.sequence_length,
      "Expected a number of samples, but got {}", samples);
  const int64_t needed = samples * request.sequence_length + extra;
  plan.num_epochs =
      std::max<int64_t>(1, (needed + plan.tokens_per_epoch - 1) / plan.tokens_per_epoch);
  if (plan.num_epochs == 1) return plan;

  plan.samples_before_final_epoch =
      ((plan.num_epochs - 1) * plan.tokens_per_epoch - extra) / request.sequence_length;
  const int64_t from_final_epoch = samples - plan.samples_before_final_epoch;
  const int64_t samples_per_epoch = (plan.tokens_per_epoch - extra) / request.sequence_length;
  // If less than 80% of the last epoch is needed, it is shuffled separately, so that the unused
  // documents are a random choice from that epoch only.
  plan.separate_final_epoch =
      from_final_epoch < static_cast<int64_t>(0.80 * static_cast<double>(samples_per_epoch));
  return plan;
}

GPTDatasetIndex build_gpt_dataset_index(const LowLevelDataset& data,
                                        const GPTDatasetIndexRequest& request) {
  const EpochPlan plan = plan_epochs(data, request);
  NumpyRandomState random(request.seed);
  auto vectors = std::make_shared<IndexVectors>();
  vectors->documents = build_document_index(request, plan, random);
  vectors->samples = build_sample_index(data, request, plan, vectors->documents);
  const size_t samples = vectors->samples.size() - 1;
  check(
      samples > 0,
      "Expected the {} documents of a split of {} to fill a sample of {} tokens, but they have {} "
      "tokens; give this split a larger share with --split, or reduce --seq-length",
      request.sequences.size(), data.path(), request.sequence_length, plan.tokens_per_epoch);
  vectors->shuffle = build_shuffle_index(samples, plan, random);
  GPTDatasetIndex index;
  index.document_index = vectors->documents;
  index.sample_index = vectors->samples;
  index.shuffle_index = vectors->shuffle;
  index.storage = std::move(vectors);
  return index;
}

}  // namespace megatron
