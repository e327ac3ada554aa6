#include "megatron/data/gpt_dataset.h"

#include <numeric>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {

GPTSample make_gpt_sample(std::vector<int64_t> text, const GPTSampleOptions& options) {
  const auto length = static_cast<size_t>(options.sequence_length);
  const size_t extra = options.add_extra_token ? 1 : 0;
  check(text.size() <= length + extra, "Expected at most {} tokens in a sample, but got {}",
        length + extra, text.size());
  text.resize(length + extra, options.pad_id);
  GPTSample sample;
  sample.labels.assign(text.begin() + 1, text.end());
  if (extra == 0) sample.labels.push_back(options.pad_id);
  text.resize(length);
  sample.tokens = std::move(text);
  sample.loss_mask.assign(length, 1.0f);
  for (size_t i = 0; i < length; ++i) {
    if (sample.labels[i] == options.pad_id) {
      sample.loss_mask[i] = 0;
      sample.labels[i] = 0;
    }
    if (options.eod_mask_loss && sample.tokens[i] == *options.eod_id) sample.loss_mask[i] = 0;
    if (sample.tokens[i] == options.pad_id) sample.tokens[i] = 0;
  }
  sample.position_ids.resize(length);
  std::iota(sample.position_ids.begin(), sample.position_ids.end(), int64_t{0});
  return sample;
}

GPTDataset::GPTDataset(std::shared_ptr<const LowLevelDataset> data, GPTDatasetIndex index,
                       GPTSampleOptions options)
    : data_(std::move(data)), index_(std::move(index)), options_(options) {
  check(!options_.eod_mask_loss || options_.eod_id.has_value(),
        "Expected a tokenizer with an end-of-document token for --eod-mask-loss, but it has none; "
        "leave the flag out");
}

std::vector<int64_t> GPTDataset::text(int64_t index) const {
  check(index >= 0 && index < size(), "Expected a sample below {}, but got {}", size(), index);
  const uint32_t position = index_.shuffle_index[static_cast<size_t>(index)];
  const auto [first, first_offset] = index_.sample_index[position];
  const auto [last, last_offset] = index_.sample_index[position + 1];
  const int64_t extra = options_.add_extra_token ? 1 : 0;
  std::vector<int64_t> text;
  text.reserve(static_cast<size_t>(options_.sequence_length + extra));
  for (int32_t entry = first; entry <= last; ++entry) {
    const int32_t sequence = index_.document_index[static_cast<size_t>(entry)];
    const int64_t begin = entry == first ? first_offset : 0;
    const int64_t end = entry == last ? last_offset + extra : data_->sequence_length(sequence);
    data_->append_tokens(sequence, begin, end - begin, text);
  }
  return text;
}

GPTSample GPTDataset::sample(int64_t index) const {
  return make_gpt_sample(text(index), options_);
}

}  // namespace megatron
