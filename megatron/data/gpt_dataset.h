// Megatron's GPTDataset: samples of fixed length from a shuffled stream of documents.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "megatron/data/gpt_dataset_index.h"
#include "megatron/data/low_level_dataset.h"
#include "megatron/data/megatron_dataset.h"

namespace megatron {

struct GPTSampleOptions {
  int64_t sequence_length = 0;
  bool add_extra_token = true;
  bool eod_mask_loss = false;  // mask the loss where the input is the end-of-document token
  std::optional<int64_t> eod_id = std::nullopt;  // required by eod_mask_loss
  // Pads a partial last sample; padding has no loss. -1 cannot be a token of the data.
  int64_t pad_id = -1;
};

// Tokens, labels, loss mask and positions from the ids of one sample: at most sequence_length, plus
// 1 with the extra token. Shorter samples are padded; padding becomes token 0 after masking.
GPTSample make_gpt_sample(std::vector<int64_t> text, const GPTSampleOptions& options);

class GPTDataset : public MegatronDataset {
 public:
  GPTDataset(std::shared_ptr<const LowLevelDataset> data, GPTDatasetIndex index,
             GPTSampleOptions options);

  int64_t size() const override { return std::ssize(index_.shuffle_index); }
  GPTSample sample(int64_t index) const override;

  // The ids of a sample before padding, including the extra token.
  std::vector<int64_t> text(int64_t index) const;

  const GPTDatasetIndex& index() const { return index_; }

 private:
  std::shared_ptr<const LowLevelDataset> data_;
  GPTDatasetIndex index_;
  GPTSampleOptions options_;
};

}  // namespace megatron
