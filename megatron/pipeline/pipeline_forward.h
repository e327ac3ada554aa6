// Runs the chunks of a GPT model over the micro-batches of a pipeline schedule. Training steps,
// evaluation, parity and generation all call this.
#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

// One micro-batch on this rank. The context holds its sizes on every stage: sample_ordinals [b],
// positions [s] of this context-parallel rank's tokens. Stages whose chunks read no tokens
// (GPTModel::reads_tokens) may leave the tensors of the input undefined.
struct PipelineMicroBatch {
  GPTModelInput input;
  ForwardContext context;
};

struct PipelineForwardOptions {
  // Runs the backward pass of each micro-batch too. Otherwise no gradients are recorded.
  bool with_backward = false;
  // Called on the last virtual stage with the model's output: token losses, or logits without
  // labels. With a backward pass it returns the scalar that the pass starts from.
  std::function<at::Tensor(int64_t microbatch, const at::Tensor& output)> on_output = {};
  // Called before each backward pass of a chunk that has a graph.
  std::function<void(int64_t microbatch, int chunk)> before_backward = {};
};

// Collective over the pipeline group of the chunks: every stage passes as many micro-batches, of
// the same sizes. Gradients of the backward passes are left in the parameters. With
// overlap_moe_expert_parallel_comm, passes with backward run as combined 1F1B. Throws Error for an
// empty list.
void run_pipeline_forward(const GPTModelChunks& chunks,
                          const std::vector<PipelineMicroBatch>& microbatches,
                          const PipelineForwardOptions& options);

}  // namespace megatron
