// One training step of one rank: the pipeline schedule over the micro-batches, complete gradients,
// the optimizer. The training loop, parity and bench all step through this.
#pragma once

#include <memory>

#include "megatron/config/options/options.h"
#include "megatron/data_parallel/distributed_data_parallel.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/optimizer/optimizer.h"
#include "megatron/reporting/run_records.h"
#include "megatron/training/micro_batch.h"

namespace megatron {

class TrainStep {
 public:
  // The chunks of this rank's pipeline stage. Their parameters must be on their device already.
  // Their values may still change until the first step: in optimizer().states(), or themselves
  // where they are not sharded; then call optimizer().reload_masters() and gather_parameters(). A
  // parameter that requires no gradient by now is frozen: it gets no main gradient and no optimizer
  // state, and stays as it is.
  TrainStep(GPTModelChunks chunks, const Options& options);
  TrainStep(std::shared_ptr<GPTModel> model, const Options& options)
      : TrainStep(GPTModelChunks{std::move(model)}, options) {}

  // The same on every rank.
  struct Losses {
    // In nats: the mean over the micro-batches of their masked means, or one mean over all tokens
    // with calculate_per_token_loss.
    double loss = 0;
    std::vector<MtpRecord> mtp;  // by depth; no part of `loss`
  };
  struct Result : Losses {
    double grad_norm = 0;
    bool skipped = false;
  };
  // Collective over the world. Every data-parallel rank gives its own micro-batches, as many as the
  // others, of one shape (but with --variable-seq-lengths, where the first stage's shapes hold for
  // all); context-parallel ranks give the same whole ones, and each takes its part.
  Result run(const std::vector<MicroBatch>& microbatches, BatchSharing sharing,
             double learning_rate);

  // The parts of run(): complete main gradients and the losses, without the optimizer.
  Losses forward_backward(const std::vector<MicroBatch>& microbatches, BatchSharing sharing);

  // The other part: a step of the optimizer from those gradients.
  Optimizer::StepResult optimize(double learning_rate);

  // The mean loss over all tokens of the micro-batches of all ranks, without dropout or gradients.
  struct Evaluation {
    double loss_sum = 0;  // nats
    double tokens = 0;
  };
  Evaluation evaluate(const std::vector<MicroBatch>& microbatches);

  const GPTModelChunks& chunks() const { return chunks_; }
  // Those that are trained.
  const std::vector<ParameterPtr>& parameters() const { return parameters_; }
  Optimizer& optimizer() { return optimizer_; }

  // Ends the gathers of parameters that a step leaves in flight for the next.
  void wait_for_parameters();
  // Whole parameters or gradients in Parameter::data and main_grad, for those who read them between
  // steps: until the next step, or reshard_parameters. Collective over the data-parallel group.
  void unshard_parameters();
  void unshard_gradients();
  void reshard_parameters();

 private:
  struct Shape {
    int64_t rows, length;
  };
  // Of the micro-batches; collective over the pipeline with --variable-seq-lengths.
  std::vector<Shape> shapes(const std::vector<MicroBatch>& microbatches) const;
  // This context-parallel rank's parts.
  std::vector<MicroBatch> own_parts(const std::vector<MicroBatch>& whole) const;
  // `length`: of this context-parallel rank's part of a row.
  ForwardContext forward_context(const MicroBatch& microbatch, int64_t length, bool training) const;
  at::Tensor loss_sum(const MicroBatch& microbatch, const at::Tensor& token_losses) const;
  // Runs the schedule; `finish` turns the token losses of the last stage into its result. `mtp`
  // holds a record for each micro-batch where multi-token prediction is to run.
  template <typename Finish>
  void run_microbatches(const std::vector<MicroBatch>& microbatches, bool training,
                        std::vector<MtpLossRecord>& mtp, const Finish& finish);
  // The means over the step of what the micro-batches of all ranks left in their records. `tokens`
  // as in forward_backward.
  std::vector<MtpRecord> reduced(const std::vector<MtpLossRecord>& mtp, const at::Tensor& tokens,
                                 double microbatches_of_all_ranks) const;

  const ProcessGroupCollection& groups() const { return chunks_.front()->groups(); }
  bool computes_loss() const { return chunks_.back()->stage().post_process; }

  GPTModelChunks chunks_;
  uint64_t seed_;
  bool per_token_;
  std::vector<ParameterPtr> parameters_;
  std::vector<std::unique_ptr<DistributedDataParallel>> data_parallel_;  // of each chunk
  Optimizer optimizer_;
};

}  // namespace megatron
