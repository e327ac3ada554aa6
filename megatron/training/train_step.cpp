#include "megatron/training/train_step.h"

#include <algorithm>
#include <set>
#include <tuple>

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/config/model/config_fields.h"
#include "megatron/data_parallel/shared_gradients.h"
#include "megatron/training/moe_training.h"

namespace megatron {
namespace {

using ChunkDataParallel = std::shared_ptr<DistributedDataParallel>;

// What was frozen or added after the chunk was wrapped would be trained, or left out, silently.
void check_parameters(const GPTModel& model, const DistributedDataParallel& data_parallel) {
  const std::set<ParameterPtr> wrapped(data_parallel.parameters().begin(),
                                       data_parallel.parameters().end());
  for (const ParameterPtr& parameter : model.parameters()) {
    const bool trains = parameter->data.requires_grad();
    check(trains == wrapped.contains(parameter),
          "Expected the trained parameters that the chunks were wrapped with, but {} was {} after "
          "that; freeze, unfreeze and add parameters in pre_wrap_hooks, which run before",
          parameter->name, trains ? "added or unfrozen" : "frozen");
  }
}

DistributedGPTModels checked(DistributedGPTModels models, const OptimizerConfig& optimizer) {
  check(!models.empty(),
        "Expected the chunks of this rank, but got none; build_distributed_models returns them");
  for (const auto& model : models) {
    check(model.module != nullptr, "Expected a module in every chunk, but got null");
    check(model.data_parallel != nullptr,
          "Expected models wrapped for data parallelism, but got one that is not; "
          "build_distributed_models with wrap_with_ddp = true works");
    const bool built_for = model.data_parallel->gathers_with_optimizer_step();
    check(built_for == optimizer.overlap_param_gather_with_optimizer_step,
          "Expected overlap_param_gather_with_optimizer_step of the optimizer to be {}, as the "
          "models were built, but got {}; the argument of build_distributed_models and the field "
          "must agree",
          built_for, optimizer.overlap_param_gather_with_optimizer_step);
    check_parameters(*model.module, *model.data_parallel);
  }
  return models;
}

// The fields by which two configurations differ, apart from the parameters' initialization and what
// finalize() derives.
std::vector<std::string> differing_fields(const GPTModelConfig& left, const GPTModelConfig& right) {
  const auto fields = [](const GPTModelConfig& config) {
    return fields_of(const_cast<GPTModelConfig&>(config));  // only read
  };
  const ConfigFields of_left = fields(left), of_right = fields(right);
  std::vector<std::string> differing;
  for (const std::string& name : of_left.names()) {
    if (name == "transformer_layer_spec" || name == "perform_initialization" ||
        name == "pipeline_dtype" || name == "sequence_parallel")
      continue;
    if (to_json(of_left.at(name)) != to_json(of_right.at(name))) differing.push_back(name);
  }
  if (!(left.transformer_layer_spec == right.transformer_layer_spec) &&
      !left.transformer_layer_spec.name().empty())
    differing.emplace_back("transformer_layer_spec");
  return differing;
}

auto values_of(const DistributedDataParallelConfig& config) {
  const auto& [fp32, bucket, buckets, pad, reduce, gather, nan, optimizer, megatron, strategy,
               torch, reshard] = config;
  return std::tie(fp32, bucket, buckets, pad, reduce, gather, nan, optimizer, megatron, strategy,
                  torch, reshard);
}

DistributedGPTModels checked(DistributedGPTModels models, const Options& options) {
  for (const auto& model : models) {
    if (model.module == nullptr || model.data_parallel == nullptr) break;  // refused later
    const std::vector<std::string> fields = differing_fields(model.module->config(), options.model);
    check(fields.empty(),
          "Expected options.model to be what the models were built from, but got {} "
          "of another value; builder.config() is that of the models",
          fmt::join(fields, ", "));
    check(values_of(model.data_parallel->config()) == values_of(options.ddp),
          "Expected options.ddp to be what the models were wrapped with, but got another; the "
          "ddp_config of build_distributed_models works");
  }
  return models;
}

std::vector<ChunkDataParallel> data_parallel_of(const DistributedGPTModels& models) {
  std::vector<ChunkDataParallel> result;
  for (const auto& model : models) result.push_back(model.data_parallel);
  return result;
}

std::vector<DistributedDataParallel*> pointers(const std::vector<ChunkDataParallel>& chunks) {
  std::vector<DistributedDataParallel*> result;
  for (const auto& chunk : chunks) result.push_back(chunk.get());
  return result;
}

}  // namespace

TrainStep::TrainStep(DistributedGPTModels models, const Options& options)
    : TrainStep(checked(std::move(models), options), options.optimizer,
                static_cast<uint64_t>(options.training.seed)) {}

TrainStep::TrainStep(DistributedGPTModels models, const OptimizerConfig& optimizer, uint64_t seed)
    : chunks_(modules_of(checked(models, optimizer))),
      seed_(seed),
      router_replay_(chunks_.front()->config().transformer, groups()),
      parameters_(trainable(parameters_of(chunks_))),
      data_parallel_(data_parallel_of(models)),
      low_precision_(chunks_, groups()),
      optimizer_(optimizer, pointers(data_parallel_), groups(),
                 chunks_.front()->config().transformer.mup_width_mult()) {
  if (chunks_.front()->config().transformer.compute_dtype() == at::kHalf)
    optimizer_.use_loss_scaler(make_loss_scaler(optimizer));
}

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
                                .loss_mask = microbatch.loss_mask,
                                .padding_mask = microbatch.padding_mask},
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
  const double loss_scale = optimizer_.loss_scale();
  LossNormalizer normalizer(chunks_.front()->config().transformer, microbatches, sharing, groups(),
                            loss_scale);
  std::vector<PipelineMicroBatch> inputs = pipeline_microbatches(slices, /*training=*/true);
  for (size_t i = 0; i < inputs.size(); ++i)
    inputs[i].input.mtp_record = normalizer.mtp_record(int64_t(i));
  const TransformerConfig& config = chunks_.front()->config().transformer;
  const auto experts = std::make_shared<MoeStep>();
  if (config.moe.has_experts()) {
    // The objective has the mean of the micro-batches' router losses. With one mean over all tokens,
    // gradients are divided by the tokens at the end.
    double weight = loss_scale / normalizer.microbatches_of_all_ranks();
    if (config.calculate_per_token_loss) weight *= std::max(normalizer.tokens_of_step(), 1.0);
    for (PipelineMicroBatch& input : inputs) {
      input.context.moe = std::make_shared<MoePass>(experts, weight);
      input.context.shares_rows = sharing == BatchSharing::rows;
    }
    std::vector<ForwardContext*> contexts;
    for (PipelineMicroBatch& input : inputs) contexts.push_back(&input.context);
    if (router_replay_.is_used()) router_replay_.begin(iteration_, contexts);
  }
  low_precision_.begin();
  run_pipeline_forward(chunks_, inputs,
                       {.with_backward = true,
                        .on_output =
                            [&](int64_t i, const at::Tensor& token_losses) {
                              return normalizer.add(i, token_losses, slices[i].loss_mask);
                            },
                        .before_backward =
                            [&](int64_t i, int chunk) {
                              if (i + 1 == std::ssize(inputs))
                                data_parallel_[chunk]->start_last_backward();
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
  losses.low_precision = low_precision_.end();
  if (const double scale = normalizer.gradient_scale(); scale != 1.0) {
    for (const auto& chunk : data_parallel_) chunk->scale_gradients(scale);
  }
  if (config.moe.has_experts()) {
    if (router_replay_.is_used()) router_replay_.end();
    update_expert_biases(chunks_);
    if (records_experts_) {
      losses.moe = moe_layer_records(*experts, groups(), config.sequence_parallel,
                                     normalizer.microbatches_of_all_ranks());
    }
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
