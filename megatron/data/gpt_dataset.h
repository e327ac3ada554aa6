// Megatron's GPTDataset: fixed-length samples cut from a shuffled stream of documents.
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
  bool eod_mask_loss = false;  // positions whose input token is the end of a document do not count
  std::optional<int64_t> eod_id = std::nullopt;  // needed for eod_mask_loss
  // Fills up the last, partial sample; its positions do not count. -1: no token of the data can be
  // it.
  int64_t pad_id = -1;
};

// Tokens, labels, mask and positions from the text of one sample: sequence_length (+ 1 with the
// extra token) ids, or fewer, which are padded. Padding is replaced by token 0 after masking.
GPTSample make_gpt_sample(std::vector<int64_t> text, const GPTSampleOptions& options);

class GPTDataset : public MegatronDataset {
 public:
  GPTDataset(std::shared_ptr<const LowLevelDataset> data, GPTDatasetIndex index,
             GPTSampleOptions options);

  int64_t size() const override { return std::ssize(index_.shuffle_index); }
  GPTSample sample(int64_t index) const override;

  // The ids of a sample before padding, the extra token included.
  std::vector<int64_t> text(int64_t index) const;

  const GPTDatasetIndex& index() const { return index_; }

 private:
  std::shared_ptr<const LowLevelDataset> data_;
  GPTDatasetIndex index_;
  GPTSampleOptions options_;
};

}  // namespace megatron
