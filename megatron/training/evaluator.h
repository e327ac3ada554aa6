// The loss of a run on its validation or test split.
#pragma once

#include <functional>
#include <optional>

#include "megatron/config/options/options.h"
#include "megatron/reporting/run_records.h"
#include "megatron/tokenizers/tokenizer.h"
#include "megatron/training/train_step.h"
#include "megatron/training/training_data.h"

namespace megatron {

class Evaluator {
 public:
  // Without a tokenizer (null) no bits per byte are computed.
  Evaluator(const Options& options, const Tokenizer* tokenizer);

  struct Callbacks {
    std::function<bool()> stop;  // collective; asked before each global batch
    std::function<void(int64_t done, int64_t batches)> on_batch;  // after each global batch
  };
  // Runs --eval-iters batches of --global-batch-size samples, or as many as the split holds, whatever
  // the batch size of training has grown to, so that losses are comparable. Collective over the
  // world. Empty where the split has no samples, or where `stop` returned true.
  std::optional<EvaluationRecord> run(TrainStep& step, const TrainingData& data, Split split,
                                      int64_t iteration, const Callbacks& callbacks) const;

 private:
  // Bytes of text behind the labels that count, over all data-parallel ranks.
  double labelled_bytes(const std::vector<MicroBatch>& microbatches, const ProcessGroup& dp) const;

  int64_t eval_iters_;
  // [v] int32: bytes of text by token id, 0 for ids that the tokenizer does not have; undefined
  // without a tokenizer.
  at::Tensor byte_lengths_;
};

const char* evaluation_name(Split split);  // "validation" or "test"

}  // namespace megatron
