// One training step of one rank: forward and backward passes of the micro-batches in the order of
// the pipeline schedule, gradient reduction, optimizer update. Used by the training loop, parity
// and bench.
#pragma once

#include <memory>

#include "megatron/config/options/options.h"
#include "megatron/data_parallel/distributed_data_parallel.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/optimizer/optimizer.h"
#include "megatron/pipeline/pipeline_forward.h"
#include "megatron/training/loss_normalizer.h"
#include "megatron/training/low_precision_step.h"
#include "megatron/training/micro_batch.h"
#include "megatron/training/router_replay.h"

namespace megatron {

class TrainStep {
 public:
  // The wrapped chunks of this rank's pipeline stage, from a builder's build_distributed_models.
  // Weights may be changed until the first step: in optimizer().states(), or in the parameters
  // where these are not sharded; then call optimizer().reload_masters() and gather_parameters().
  // Parameters that require no gradient when the chunks are wrapped are frozen: they have no main
  // gradient and no optimizer state. `seed` is that of dropout. Throws Error if there is no chunk,
  // for a chunk that is not wrapped, for parameters frozen, unfrozen or added since, and for an
  // overlap_param_gather_with_optimizer_step that the chunks were not built for.
  TrainStep(DistributedGPTModels models, const OptimizerConfig& optimizer, uint64_t seed);
  // With `optimizer` and `training.seed` of the options. Throws Error, too, if their `model` or
  // `ddp` is not what the chunks were built from.
  TrainStep(DistributedGPTModels models, const Options& options);

  using Losses = StepLosses;
  struct Result : Losses {
    double grad_norm = 0;
    bool skipped = false;
  };
  // Collective over the world. Every data-parallel rank passes its own micro-batches, the same
  // number of them and all of one shape; with --variable-seq-lengths shapes may differ, and those
  // of the first pipeline stage hold. Context-parallel ranks pass the same full sequences, of
  // which each uses its slice.
  Result run(const std::vector<MicroBatch>& microbatches, BatchSharing sharing,
             double learning_rate);

  // The number of the next step in the run, for records of the routers' choices.
  void set_iteration(int64_t iteration) { iteration_ = iteration; }

  // Whether the losses of the next steps have records of the layers with experts, which take
  // collectives. They do by default; the same on every rank.
  void record_experts(bool records) { records_experts_ = records; }

  // The first half of run(): complete main gradients, with fp16 times optimizer().loss_scale(), and
  // the losses.
  Losses forward_backward(const std::vector<MicroBatch>& microbatches, BatchSharing sharing);

  // The second half: an optimizer step from those gradients.
  Optimizer::StepResult optimize(double learning_rate,
                                 std::optional<double> decoupled_learning_rate = std::nullopt);

  // Summed losses and counted tokens of the micro-batches of all ranks, without dropout or
  // gradients.
  struct Evaluation {
    double loss_sum = 0;  // nats
    double tokens = 0;
  };
  Evaluation evaluate(const std::vector<MicroBatch>& microbatches);

  const GPTModelChunks& chunks() const { return chunks_; }
  // The trained parameters of all chunks.
  const std::vector<ParameterPtr>& parameters() const { return parameters_; }
  Optimizer& optimizer() { return optimizer_; }

  // Waits for the parameter gathers that a step leaves in flight.
  void wait_for_parameters();
  // Unshards parameters (Parameter::data) or gradients (main_grad) so that they can be read between
  // steps: until the next step, or reshard_parameters(). Collective over the data-parallel group.
  void unshard_parameters();
  void unshard_gradients();
  void reshard_parameters();

 private:
  // The micro-batches of this context-parallel rank as the model reads them. Collective over the
  // pipeline with --variable-seq-lengths.
  std::vector<PipelineMicroBatch> pipeline_microbatches(const std::vector<MicroBatch>& microbatches,
                                                        bool training) const;
  // Lengths of the rows by micro-batch, as on the first pipeline stage.
  std::vector<int64_t> row_lengths(const std::vector<MicroBatch>& microbatches) const;

  const ProcessGroupCollection& groups() const { return chunks_.front()->groups(); }

  GPTModelChunks chunks_;
  uint64_t seed_;
  int64_t iteration_ = 1;
  bool records_experts_ = true;
  RouterReplay router_replay_;
  std::vector<ParameterPtr> parameters_;
  std::vector<std::shared_ptr<DistributedDataParallel>> data_parallel_;  // by chunk
  LowPrecisionStep low_precision_;
  Optimizer optimizer_;
};

}  // namespace megatron
