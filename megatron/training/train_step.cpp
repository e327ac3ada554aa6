#include "megatron/training/train_step.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include "megatron/base/error.h"
#include "megatron/data_parallel/shared_gradients.h"

namespace megatron {
namespace {

using ChunkDataParallel = std::shared_ptr<DistributedDataParallel>;

std::vector<ChunkDataParallel> data_parallel_of(const DistributedGPTModels& models) {
  std::vector<ChunkDataParallel> result;
  for (const auto& model : models) {
    check(model.data_parallel != nullptr,
          "Expected models wrapped for data parallelism, but got one that is not; "
          "build_distributed_models with wrap_with_ddp = true works");
    result.push_back(model.data_parallel);
  }
  return result;
}

std::vector<DistributedDataParallel*> pointers(const std::vector<ChunkDataParallel>& chunks) {
  std::vector<DistributedDataParallel*> result;
  for (const auto& chunk : chunks) result.push_back(chunk.get());
  return result;
}

}  // namespace

TrainStep::TrainStep(DistributedGPTModels models, const Options& options)
    : chunks_(modules_of(models)),
      seed_(options.training.seed),
      parameters_(trainable(parameters_of(chunks_))),
      data_parallel_(data_parallel_of(models)),
      optimizer_(options.optimizer, pointers(data_parallel_), groups(),
                 options.model.transformer.mup_width_mult()) {}

std::vector<int64_t> TrainStep::row_lengths(const std::vector<MicroBatch>& microbatches) const {
  std::vector<int64_t> lengths;
  for (const MicroBatch& microbatch : microbatches) lengths.push_back(microbatch.length());
  if (chunks_.front()->config().transformer.pipeline.variable_seq_lengths) {
    const at::Tensor sent = at::tensor(lengths, at::kLong);
    groups().pp->broadcast(sent, /*group_root=*/0);
    std::copy_n(sent.data_ptr<int64_t>(), lengths.size(), lengths.begin());
    return lengths;
  }
  for (const MicroBatch& microbatch : microbatches) {
    // A stage that reads no tokens has only sequence_length. With 0 refused, every stage reports the
    // error of the first.
    check(groups().pp->size() == 1 ||
              (microbatch.rows() == microbatches[0].rows() &&
               microbatch.length() == microbatches[0].length() && microbatch.length() > 0),
          "Expected micro-batches of one shape on a pipeline, but got {} x {} and {} x {}; "
          "--variable-seq-lengths accepts different lengths",
          microbatches[0].rows(), microbatches[0].length(), microbatch.rows(), microbatch.length());
  }
  return lengths;
}

std::vector<PipelineMicroBatch> TrainStep::pipeline_microbatches(
    const std::vector<MicroBatch>& microbatches, bool training) const {
  const ProcessGroup &tp = *groups().tp, &cp = *groups().cp;
  const std::vector<int64_t> lengths = row_lengths(microbatches);
  const bool sequence_parallel = chunks_.front()->config().transformer.sequence_parallel;
  std::vector<PipelineMicroBatch> result;
  for (size_t i = 0; i < microbatches.size(); ++i) {
    const MicroBatch& microbatch = microbatches[i];
    result.push_back({.input = {.input_ids = microbatch.tokens,
                                .position_ids = microbatch.position_ids,
                                .attention_mask = microbatch.attention_mask,
                                .labels = microbatch.labels,
                                .loss_mask = microbatch.loss_mask},
                      .context = ForwardContext::make(training, seed_, microbatch.sample_ordinals,
                                                      token_positions(lengths[i] * cp.size(), cp),
                                                      sequence_parallel, tp.rank(), tp.size())});
  }
  return result;
}

TrainStep::Losses TrainStep::forward_backward(const std::vector<MicroBatch>& microbatches,
                                              BatchSharing sharing) {
  for (const auto& chunk : data_parallel_) chunk->zero_gradients();
  const std::vector<MicroBatch> slices = context_parallel_slices(microbatches, *groups().cp);
  LossNormalizer normalizer(chunks_.front()->config().transformer, microbatches, sharing, groups());
  std::vector<PipelineMicroBatch> inputs = pipeline_microbatches(slices, /*training=*/true);
  for (size_t i = 0; i < inputs.size(); ++i)
    inputs[i].input.mtp_record = normalizer.mtp_record(int64_t(i));
  run_pipeline_forward(chunks_, inputs,
                       {.with_backward = true,
                        .on_output =
                            [&](int64_t i, const at::Tensor& token_losses) {
                              return normalizer.add(i, token_losses, slices[i].loss_mask);
                            },
                        .after_forward =
                            [&](int64_t i, int chunk, const at::Tensor& result) {
                              if (i + 1 == std::ssize(inputs))
                                data_parallel_[chunk]->reduce_with_backward_of(result);
                            }});

  for (const auto& chunk : chunks_) chunk->compute_deferred_weight_gradients();
  std::vector<ParameterSlice> owned;
  for (const auto& chunk : data_parallel_) {
    chunk->finish_gradients();
    owned.insert(owned.end(), chunk->owned_slices().begin(), chunk->owned_slices().end());
  }
  finalize_shared_gradients(owned, groups());
  // Gradients are sums over the data- and context-parallel ranks: the divisors are global.
  Losses losses = normalizer.reduce();
  if (const double scale = normalizer.gradient_scale(); scale != 1.0) {
    for (const auto& chunk : data_parallel_) chunk->scale_gradients(scale);
  }
  return losses;
}

TrainStep::Result TrainStep::run(const std::vector<MicroBatch>& microbatches, BatchSharing sharing,
                                 double learning_rate) {
  Losses losses = forward_backward(microbatches, sharing);
  const Optimizer::StepResult stepped = optimize(learning_rate);
  return {std::move(losses), stepped.grad_norm, stepped.skipped};
}

Optimizer::StepResult TrainStep::optimize(double learning_rate,
                                          std::optional<double> decoupled_learning_rate) {
  RECORD_USER_SCOPE("optimizer");
  return optimizer_.step(learning_rate, decoupled_learning_rate);
}

void TrainStep::wait_for_parameters() {
  for (const auto& chunk : data_parallel_) chunk->wait_for_parameters();
}

void TrainStep::unshard_parameters() {
  for (const auto& chunk : data_parallel_) chunk->unshard_parameters();
}

void TrainStep::unshard_gradients() {
  for (const auto& chunk : data_parallel_) chunk->unshard_gradients();
}

void TrainStep::reshard_parameters() {
  for (const auto& chunk : data_parallel_) chunk->reshard_parameters();
}

TrainStep::Evaluation TrainStep::evaluate(const std::vector<MicroBatch>& microbatches) {
  const std::vector<MicroBatch> slices = context_parallel_slices(microbatches, *groups().cp);
  at::Tensor sums = at::zeros({2}, at::kDouble);
  run_pipeline_forward(chunks_, pipeline_microbatches(slices, /*training=*/false),
                       {.on_output = [&](int64_t i, const at::Tensor& token_losses) {
                         const at::Tensor& mask = slices[i].loss_mask;
                         sums[0] += masked_loss_sum(token_losses, mask).item<double>();
                         sums[1] += mask.sum(at::kDouble).item<double>();
                         return token_losses;
                       }});
  reshard_parameters();
  groups().dp_cp->all_reduce(sums);
  groups().pp->broadcast(sums, groups().pp->size() - 1);
  return {sums[0].item<double>(), sums[1].item<double>()};
}

}  // namespace megatron
