// LanguageModule: multi-token prediction.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/models/common/language_module.h"
#include "megatron/tensor_parallel/vocab_parallel_argmax.h"

namespace megatron {
namespace {

// Tokens per chunk of argmax_in_chunks.
constexpr int64_t kArgmaxChunkTokens = 128;

}  // namespace

void LanguageModule::setup_mtp_cuda_graphs() const {
  check(mtp_ == nullptr || config_.transformer.cuda_graph_impl != CudaGraphImpl::local,
        "Expected cuda_graph_impl none with multi-token prediction, but got local; CUDA graphs are "
        "not supported in this version");
}

HeadOutput LanguageModule::compute_head(const at::Tensor& hidden_states, const at::Tensor& labels,
                                        const ParameterPtr& weight, bool wants_argmax) const {
  if (fuses_linear_cross_entropy()) {
    return {.losses = compute_output_loss(labels, hidden_states, weight),
            .argmax = wants_argmax ? argmax_in_chunks(hidden_states, weight) : at::Tensor()};
  }
  const at::Tensor logits = compute_logits(hidden_states, /*gather_output=*/false, weight);
  // Before the loss, which may overwrite the logits.
  const at::Tensor argmax =
      wants_argmax ? vocab_parallel_argmax(logits, *config_.vocab_size, *groups_.tp).t()
                   : at::Tensor();
  return {.losses = compute_language_model_loss(labels, logits), .argmax = argmax};
}

at::Tensor LanguageModule::argmax_in_chunks(const at::Tensor& hidden_states,
                                            const ParameterPtr& weight) const {
  const at::NoGradGuard no_grad;
  const int64_t positions = hidden_states.size(0), b = hidden_states.size(1);
  // With sequence parallelism compute_logits gathers the positions of all ranks, in rank order.
  const int64_t ranks = options_.sequence_parallel ? groups_.tp->size() : 1;
  const int64_t step = std::max<int64_t>(1, kArgmaxChunkTokens / (b * ranks));
  const at::Tensor argmax =
      at::empty({ranks, positions, b}, hidden_states.options().dtype(at::kLong));
  for (int64_t first = 0; first < positions; first += step) {
    const int64_t count = std::min(step, positions - first);
    const at::Tensor logits = compute_logits(hidden_states.narrow(0, first, count),
                                             /*gather_output=*/false, weight);
    argmax.narrow(1, first, count)
        .copy_(vocab_parallel_argmax(logits, *config_.vocab_size, *groups_.tp)
                   .view({ranks, count, b}));
  }
  return argmax.view({ranks * positions, b}).t();
}

std::pair<at::Tensor, at::Tensor> LanguageModule::compute_mtp_single_step(
    const at::Tensor& hidden_states, const at::Tensor& next_token_ids,
    const at::Tensor& position_ids, std::optional<int64_t> depth) const {
  check(mtp_ != nullptr && output_layer_ != nullptr,
        "Expected a pipeline stage with MTP layers and the output layer (the last stage, with "
        "mtp_num_layers set), but got stage {} of {} without them",
        stage_.rank, stage_.size);
  const auto layers = static_cast<int64_t>(mtp_->layers().size());
  check(depth.value_or(0) >= 0 && depth.value_or(0) < layers,
        "Expected an MTP depth in [0, {}), but got {}; leave it unset for a repeated layer", layers,
        depth.value_or(0));
  check(!options_.sequence_parallel,
        "Expected MTP single steps without sequence parallelism, but got sequence_parallel");
  check(groups_.cp->size() == 1,
        "Expected MTP single steps without context parallelism, but got context_parallel_size {}; "
        "1 works",
        groups_.cp->size());
  const int64_t n = hidden_states.size(0), h = config_.transformer.hidden_size;
  check(hidden_states.sizes() == at::IntArrayRef({n, 1, h}),
        "Expected hidden_states of shape [N, 1, {}], but got {}", h, hidden_states.sizes().vec());
  check(next_token_ids.sizes() == at::IntArrayRef({1, n}) &&
            position_ids.sizes() == next_token_ids.sizes(),
        "Expected next_token_ids and position_ids of shape [1, {}], but got {} and {}", n,
        next_token_ids.sizes().vec(), position_ids.sizes().vec());
  const at::NoGradGuard no_grad;
  // Sequences of one token, which attends to itself only: its position does not matter.
  const ForwardContext context =
      ForwardContext::make(/*training=*/false, /*seed=*/0, at::arange(n, at::kLong),
                           /*sequence_length=*/1, /*sequence_parallel=*/false, 0, 1);
  const at::Tensor embedded = embed(next_token_ids.t(), position_ids.t(), context);
  const at::Tensor mtp_hidden_states = mtp_->layers()[depth.value_or(0)]->forward(
      hidden_states.transpose(0, 1), embedded, LayerInput{}, context);
  const at::Tensor logits = compute_logits(mtp_hidden_states, /*gather_output=*/true);
  return {mtp_hidden_states.transpose(0, 1).contiguous(), logits.transpose(0, 1).contiguous()};
}

}  // namespace megatron
