#include "megatron/training/train_step.h"

#include <ATen/record_function.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/data_parallel/frozen_parameters.h"
#include "megatron/data_parallel/shared_gradients.h"
#include "megatron/pipeline/executor.h"

namespace megatron {
namespace {

using ChunkDataParallel = std::unique_ptr<DistributedDataParallel>;

std::vector<ChunkDataParallel> data_parallel_of(const GPTModelChunks& chunks,
                                                const DistributedDataParallelConfig& config) {
  std::vector<ChunkDataParallel> result;
  for (const auto& chunk : chunks) {
    result.push_back(std::make_unique<DistributedDataParallel>(chunk->module_groups(), config,
                                                               chunk->groups().dp_cp));
  }
  return result;
}

std::vector<DistributedDataParallel*> pointers(const std::vector<ChunkDataParallel>& chunks) {
  std::vector<DistributedDataParallel*> result;
  for (const auto& chunk : chunks) result.push_back(chunk.get());
  return result;
}

}  // namespace

TrainStep::TrainStep(GPTModelChunks chunks, const Options& options)
    : chunks_(std::move(chunks)),
      seed_(options.training.seed),
      per_token_(options.model.transformer.calculate_per_token_loss),
      parameters_(trainable(parameters_of(chunks_))),
      data_parallel_(data_parallel_of(chunks_, options.ddp)),
      optimizer_(options.optimizer, pointers(data_parallel_), groups(),
                 options.model.transformer.mup_width_mult()) {
  check_frozen_parameters(parameters_of(chunks_), groups());
}

std::vector<TrainStep::Shape> TrainStep::shapes(const std::vector<MicroBatch>& microbatches) const {
  std::vector<Shape> shapes;
  for (const MicroBatch& microbatch : microbatches)
    shapes.push_back({microbatch.rows(), microbatch.length()});
  if (chunks_.front()->config().transformer.pipeline.variable_seq_lengths) {
    const at::Tensor lengths = at::empty({std::ssize(shapes)}, at::kLong);
    for (size_t i = 0; i < shapes.size(); ++i) lengths[i] = shapes[i].length;
    groups().pp->broadcast(lengths, /*group_root=*/0);
    for (size_t i = 0; i < shapes.size(); ++i) shapes[i].length = lengths[i].item<int64_t>();
    return shapes;
  }
  for (const Shape& shape : shapes) {
    check(groups().pp->size() == 1 ||
              (shape.rows == shapes[0].rows && shape.length == shapes[0].length),
          "Expected micro-batches of one shape on a pipeline, but got {} x {} and {} x {}; "
          "--variable-seq-lengths takes others",
          shapes[0].rows, shapes[0].length, shape.rows, shape.length);
  }
  return shapes;
}

ForwardContext TrainStep::forward_context(const MicroBatch& microbatch, int64_t length,
                                          bool training) const {
  const ProcessGroup &tp = *groups().tp, &cp = *groups().cp;
  return ForwardContext::make(
      training, seed_, microbatch.sample_ordinals, token_positions(length * cp.size(), cp),
      chunks_.front()->config().transformer.sequence_parallel, tp.rank(), tp.size());
}

std::vector<MicroBatch> TrainStep::own_parts(const std::vector<MicroBatch>& whole) const {
  std::vector<MicroBatch> parts;
  for (const MicroBatch& microbatch : whole)
    parts.push_back(context_parallel_part(microbatch, *groups().cp));
  return parts;
}

at::Tensor TrainStep::loss_sum(const MicroBatch& microbatch, const at::Tensor& token_losses) const {
  return (token_losses * microbatch.loss_mask.to(token_losses.scalar_type())).sum();
}

template <typename Finish>
void TrainStep::run_microbatches(const std::vector<MicroBatch>& microbatches, bool training,
                                 std::vector<MtpLossRecord>& mtp, const Finish& finish) {
  check(!microbatches.empty(), "Expected at least one micro-batch, but got none");
  const ProcessGroup& pp = *groups().pp;
  const PipelineConfig& config = chunks_.front()->config().transformer.pipeline;
  const std::vector<Shape> shape = shapes(microbatches);
  const at::AutoGradMode grad_mode(training);
  const auto empty_input = [&](int64_t index, int chunk) {
    const GPTModel& model = *chunks_[chunk];
    return at::empty(
        model.input_shape(shape[index].length, shape[index].rows, /*runs_mtp=*/training),
        model.activation_options());
  };
  const auto forward = [&](int64_t index, int chunk, const at::Tensor& input) {
    RECORD_USER_SCOPE(fmt::format("forward of micro-batch {}", index));
    const MicroBatch& microbatch = microbatches[index];
    GPTModel& model = *chunks_[chunk];
    if (input.defined()) model.set_input_tensor(input);
    const at::Tensor output =
        model.forward({.input_ids = microbatch.tokens,
                       .position_ids = microbatch.position_ids,
                       .attention_mask = microbatch.attention_mask,
                       .labels = microbatch.labels,
                       .loss_mask = microbatch.loss_mask,
                       .mtp_record = mtp.empty() ? nullptr : &mtp[index]},
                      forward_context(microbatch, shape[index].length, training));
    const at::Tensor result = model.stage().post_process ? finish(index, output) : output;
    if (training && index + 1 == std::ssize(microbatches))
      data_parallel_[chunk]->reduce_with_backward_of(result);
    return result;
  };
  run_schedule(
      make_schedule({.stages = pp.size(),
                     .chunks = static_cast<int>(chunks_.size()),
                     .microbatches = std::ssize(microbatches),
                     .group = training ? config.microbatch_group_size_per_vp_stage : std::nullopt,
                     .forward_only = !training}),
      pp, {empty_input, forward},
      {.overlap = config.overlap_p2p_comm, .deallocate = config.deallocate_pipeline_outputs});
}

TrainStep::Losses TrainStep::forward_backward(const std::vector<MicroBatch>& whole,
                                              BatchSharing sharing) {
  const ProcessGroupCollection& groups = this->groups();
  const TransformerConfig& config = chunks_.front()->config().transformer;
  const ProcessGroup& dp_cp = *groups.dp_cp;
  const std::vector<MicroBatch> microbatches = own_parts(whole);
  const at::TensorOptions cpu_double = at::TensorOptions().dtype(at::kDouble);
  const auto count = static_cast<int64_t>(microbatches.size());

  for (const auto& chunk : data_parallel_) chunk->zero_gradients();
  // Tokens that count, by micro-batch and depth (0: the main loss), of whole sequences: those of
  // all ranks where the ranks share its rows.
  const int64_t depths = config.mtp.mtp_num_layers;
  at::Tensor tokens = at::zeros({count, depths + 1}, cpu_double);
  for (int64_t i = 0; i < count; ++i) {
    // Stages that read no data need no counts.
    if (whole[i].loss_mask.defined()) tokens[i] = tokens_by_depth(whole[i].loss_mask, depths);
  }
  if (sharing == BatchSharing::rows) groups.dp->all_reduce(tokens);

  // Gradients are summed, not averaged, over the data- and context-parallel ranks, so that divisors
  // are the whole ones.
  const auto microbatches_of_all_ranks =
      double(sharing == BatchSharing::rows ? count : count * groups.dp->size());
  std::vector<MtpLossRecord> mtp;
  for (int64_t i = 0; i < count && depths > 0; ++i)
    mtp.push_back({.weights = mtp_loss_weights(config, tokens[i], microbatches_of_all_ranks)});
  at::Tensor sums = at::zeros({2}, cpu_double);  // of losses, and of tokens
  run_microbatches(
      microbatches, /*training=*/true, mtp, [&](int64_t i, const at::Tensor& token_losses) {
        const at::Tensor sum = loss_sum(microbatches[i], token_losses);
        const double divisor =
            per_token_ ? 1.0
                       : std::max(tokens[i][0].item<double>(), 1.0) * microbatches_of_all_ranks;
        sums[0] += sum.item<double>() / divisor;
        sums[1] += microbatches[i].loss_mask.sum(at::kDouble).item<double>();
        return sum / divisor;
      });

  for (const auto& chunk : chunks_) chunk->compute_deferred_weight_gradients();
  std::vector<ParameterSlice> slices;
  for (const auto& chunk : data_parallel_) {
    chunk->finish_gradients();
    slices.insert(slices.end(), chunk->owned_slices().begin(), chunk->owned_slices().end());
  }
  finalize_shared_gradients(slices, groups);
  dp_cp.all_reduce(sums);
  groups.pp->broadcast(sums, groups.pp->size() - 1);
  double divisor = 1.0;
  if (per_token_) {
    divisor = std::max(sums[1].item<double>(), 1.0);
    for (const auto& chunk : data_parallel_) chunk->scale_gradients(1.0 / divisor);
  }
  return {sums[0].item<double>() / divisor, reduced(mtp, tokens, microbatches_of_all_ranks)};
}

std::vector<MtpRecord> TrainStep::reduced(const std::vector<MtpLossRecord>& mtp,
                                          const at::Tensor& tokens,
                                          double microbatches_of_all_ranks) const {
  if (mtp.empty()) return {};
  const int64_t depths = tokens.size(1) - 1;
  at::Tensor sums = at::zeros({3, depths}, at::TensorOptions().dtype(at::kDouble));
  for (size_t i = 0; i < mtp.size() && computes_loss(); ++i) {
    const at::Tensor counts = tokens[i].narrow(0, 1, depths).clamp_min(1);
    sums[0] += mtp[i].loss_sum.cpu() / (counts * microbatches_of_all_ranks);
    sums[1] += mtp[i].tokens.cpu();
    sums[2] += mtp[i].correct.cpu();
  }
  groups().dp_cp->all_reduce(sums);
  groups().pp->broadcast(sums, groups().pp->size() - 1);
  std::vector<MtpRecord> records;
  for (int64_t depth = 0; depth < depths; ++depth) {
    const double counted = sums[1][depth].item<double>();
    records.push_back(
        {.loss = sums[0][depth].item<double>(),
         .tokens = counted,
         .acceptance_rate = 100.0 * sums[2][depth].item<double>() / std::max(counted, 1.0)});
  }
  return records;
}

TrainStep::Result TrainStep::run(const std::vector<MicroBatch>& microbatches, BatchSharing sharing,
                                 double learning_rate) {
  Losses losses = forward_backward(microbatches, sharing);
  const Optimizer::StepResult stepped = optimize(learning_rate);
  return {std::move(losses), stepped.grad_norm, stepped.skipped};
}

Optimizer::StepResult TrainStep::optimize(double learning_rate) {
  RECORD_USER_SCOPE("optimizer");
  return optimizer_.step(learning_rate);
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

TrainStep::Evaluation TrainStep::evaluate(const std::vector<MicroBatch>& whole) {
  const std::vector<MicroBatch> microbatches = own_parts(whole);
  at::Tensor sums = at::zeros({2}, at::TensorOptions().dtype(at::kDouble));
  std::vector<MtpLossRecord> no_mtp;
  run_microbatches(microbatches, /*training=*/false, no_mtp,
                   [&](int64_t i, const at::Tensor& token_losses) {
                     sums[0] += loss_sum(microbatches[i], token_losses).item<double>();
                     sums[1] += microbatches[i].loss_mask.sum(at::kDouble).item<double>();
                     return token_losses;
                   });
  reshard_parameters();
  groups().dp_cp->all_reduce(sums);
  groups().pp->broadcast(sums, groups().pp->size() - 1);
  return {sums[0].item<double>(), sums[1].item<double>()};
}

}  // namespace megatron
