#include "megatron/training/evaluator.h"

#include <algorithm>
#include <numbers>

#include <ATen/ATen.h>

namespace megatron {

Evaluator::Evaluator(const Options& options, const Tokenizer* tokenizer)
    : eval_iters_(options.training.eval_iters) {
  if (tokenizer == nullptr) return;
  std::vector<int32_t> lengths = tokenizer->token_byte_lengths();
  lengths.resize(std::max(lengths.size(), static_cast<size_t>(*options.model.vocab_size)), 0);
  byte_lengths_ = at::tensor(lengths, at::kInt);
}

std::optional<EvaluationRecord> Evaluator::run(TrainStep& step, const TrainingData& data,
                                               Split split, int64_t iteration,
                                               const Callbacks& callbacks) const {
  if (!data.has(split)) return std::nullopt;
  const int64_t global_batch = data.batch_sizes().final_batch_size();
  const int64_t batches =
      std::min(eval_iters_, std::max<int64_t>(data.size(split) / global_batch, 1));
  const ProcessGroup& dp = *step.chunks().front()->groups().dp;
  double loss_sum = 0, tokens = 0, bytes = 0;
  for (int64_t i = 0; i < batches; ++i) {
    if (callbacks.stop()) return std::nullopt;
    const std::vector<MicroBatch> microbatches =
        data.global_batch(split, i * global_batch, global_batch);
    const TrainStep::Evaluation evaluation = step.evaluate(microbatches);
    loss_sum += evaluation.loss_sum;
    tokens += evaluation.tokens;
    bytes += labelled_bytes(microbatches, dp);
    callbacks.on_batch(i + 1, batches);
  }
  EvaluationRecord record{.iteration = iteration,
                          .split = evaluation_name(split),
                          .loss = loss_sum / std::max(tokens, 1.0)};
  if (bytes > 0) record.bits_per_byte = loss_sum / std::numbers::ln2 / bytes;
  return record;
}

double Evaluator::labelled_bytes(const std::vector<MicroBatch>& microbatches,
                                 const ProcessGroup& dp) const {
  if (!byte_lengths_.defined()) return 0;
  at::Tensor bytes = at::zeros({1}, at::kDouble);
  for (const MicroBatch& microbatch : microbatches) {
    if (!microbatch.labels.defined()) continue;
    const at::Tensor lengths = byte_lengths_.index_select(0, microbatch.labels.cpu().view(-1));
    bytes += (lengths * microbatch.loss_mask.cpu().view(-1)).sum(at::kDouble);
  }
  dp.all_reduce(bytes);  // context-parallel ranks count the same full sequences
  return bytes.item<double>();
}

const char* evaluation_name(Split split) {
  return split == Split::valid ? "validation" : "test";
}

}  // namespace megatron
