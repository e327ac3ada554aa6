// The datasets of a training run, cut into the micro-batches of a rank.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "megatron/config/model/batch_size.h"
#include "megatron/config/options/options.h"
#include "megatron/data/megatron_dataset.h"
#include "megatron/data/split.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/tokenizers/tokenizer.h"
#include "megatron/training/data_identity.h"
#include "megatron/training/micro_batch.h"

namespace megatron {

class TrainingData {
 public:
  // Opens the data (data_sources.h), or makes the mock data, and splits it. Collective over the
  // world: the first rank writes the index cache before the others read it. `tokenizer` may be
  // null. `note` is called with lines for the log. A rank with `reads_tokens` false opens no files,
  // and its micro-batches have only sample ordinals; the first rank must read.
  TrainingData(const Options& options, const Tokenizer* tokenizer,
               const ProcessGroupCollection& groups, at::Device device, bool reads_tokens,
               const std::function<void(const std::string&)>& note);

  bool has(Split split) const { return size(split) > 0; }
  int64_t size(Split split) const { return sizes_[static_cast<size_t>(split)]; }

  // This rank's micro-batches of the `batch_size` samples after `consumed_samples`. Samples repeat
  // from the first one where the split ends.
  std::vector<MicroBatch> global_batch(Split split, int64_t consumed_samples,
                                       int64_t batch_size) const;

  // Sizes of the training steps. Evaluations run in batches of the final size.
  const BatchSizeSchedule& batch_sizes() const { return batch_sizes_; }

  // The samples of the training split, on the first rank.
  const DataIdentity& identity() const { return identity_; }

 private:
  void open_splits(const Options& options, const Tokenizer* tokenizer,
                   const std::function<void(const std::string&)>& note);
  // A micro-batch of a rank that reads no tokens.
  MicroBatch unread_microbatch(const std::vector<int64_t>& ordinals) const;
  MicroBatch make_microbatch(const MegatronDataset& dataset,
                             const std::vector<int64_t>& ordinals) const;

  ProcessGroupCollection groups_;
  at::Device device_;
  int64_t micro_batch_size_, vocab_size_, sequence_length_;
  BatchSizeSchedule batch_sizes_;
  bool reads_tokens_;
  std::string path_;  // of the data, for messages
  DataIdentity identity_;
  std::array<int64_t, 3> sizes_{};  // samples by split; 0 where there are none
  std::array<std::shared_ptr<const MegatronDataset>, 3> datasets_;
};

}  // namespace megatron
