// LanguageModule's part in multi-token prediction.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/models/common/language_module.h"
#include "megatron/parallel/collectives.h"
#include "megatron/tensor_parallel/vocab_parallel_argmax.h"

namespace megatron {
namespace {

// Positions whose logits exist at a time where the loss does not hold them.
constexpr int64_t kTokensAtATime = 128;

}  // namespace

void LanguageModule::setup_mtp_cuda_graphs() const {
  check(mtp_ == nullptr || config_.transformer.cuda_graph_impl != CudaGraphImpl::local,
        "Expected cuda_graph_impl none with multi-token prediction, but got local; CUDA graphs are "
        "not in this version");
}

at::Tensor LanguageModule::embed(const at::Tensor& input_ids, const at::Tensor& position_ids,
                                 const ForwardContext& context) const {
  const at::Tensor embedded = embedding_->forward(input_ids, position_ids, context);
  const bool is_whole = options_.sequence_parallel && !config_.scatter_embedding_sequence_parallel;
  return is_whole ? scatter_to_sequence_parallel_region(embedded, *groups_.tp) : embedded;
}

HeadOutput LanguageModule::compute_head(const at::Tensor& hidden_states, const at::Tensor& labels,
                                        const ParameterPtr& weight, bool wants_likeliest) const {
  if (fuses_linear_cross_entropy()) {
    return {
        .losses = compute_output_loss(labels, hidden_states, weight),
        .likeliest = wants_likeliest ? likeliest_in_parts(hidden_states, weight) : at::Tensor()};
  }
  const at::Tensor logits = compute_logits(hidden_states, /*gather_output=*/false, weight);
  // Before the loss, which may write over the logits.
  const at::Tensor likeliest =
      wants_likeliest ? vocab_parallel_argmax(logits, config_.vocab_size, *groups_.tp).t()
                      : at::Tensor();
  return {.losses = compute_language_model_loss(labels, logits), .likeliest = likeliest};
}

at::Tensor LanguageModule::likeliest_in_parts(const at::Tensor& hidden_states,
                                              const ParameterPtr& weight) const {
  const at::NoGradGuard no_grad;
  const int64_t places = hidden_states.size(0), b = hidden_states.size(1);
  // With sequence parallelism every rank gives as many places, which come back rank by rank.
  const int64_t ranks = options_.sequence_parallel ? groups_.tp->size() : 1;
  const int64_t step = std::max<int64_t>(1, kTokensAtATime / (b * ranks));
  const at::Tensor likeliest =
      at::empty({ranks, places, b}, hidden_states.options().dtype(at::kLong));
  for (int64_t first = 0; first < places; first += step) {
    const int64_t count = std::min(step, places - first);
    const at::Tensor logits = compute_logits(hidden_states.narrow(0, first, count),
                                             /*gather_output=*/false, weight);
    likeliest.narrow(1, first, count)
        .copy_(
            vocab_parallel_argmax(logits, config_.vocab_size, *groups_.tp).view({ranks, count, b}));
  }
  return likeliest.view({ranks * places, b}).t();
}

std::pair<at::Tensor, at::Tensor> LanguageModule::compute_mtp_single_step(
    const at::Tensor& hidden_states, const at::Tensor& next_token_ids,
    const at::Tensor& position_ids, std::optional<int64_t> depth) const {
  check(mtp_ != nullptr && output_layer_ != nullptr,
        "Expected a stage with multi-token prediction and the output layer (the last one, with "
        "--mtp-num-layers), but got stage {} of {} without",
        stage_.rank, stage_.size);
  const auto layers = static_cast<int64_t>(mtp_->layers().size());
  check(depth.value_or(0) >= 0 && depth.value_or(0) < layers,
        "Expected a depth of at least 0 and below the {} prediction layers, but got {}; a repeated "
        "layer takes none",
        layers, depth.value_or(0));
  check(!options_.sequence_parallel,
        "Expected single steps of multi-token prediction without sequence parallelism, but got "
        "--sequence-parallel");
  check(groups_.cp->size() == 1,
        "Expected single steps of multi-token prediction without context parallelism, but got "
        "--context-parallel-size {}; 1 works",
        groups_.cp->size());
  const int64_t n = hidden_states.size(0), h = config_.transformer.hidden_size;
  check(hidden_states.sizes() == at::IntArrayRef({n, 1, h}),
        "Expected hidden_states of shape [N, 1, {}], but got {}", h, hidden_states.sizes().vec());
  check(next_token_ids.sizes() == at::IntArrayRef({1, n}) &&
            position_ids.sizes() == next_token_ids.sizes(),
        "Expected next_token_ids and position_ids of shape [1, {}], but got {} and {}", n,
        next_token_ids.sizes().vec(), position_ids.sizes().vec());
  const at::NoGradGuard no_grad;
  // Sequences of one token: attention has that token alone to see, whatever its position.
  const ForwardContext context =
      ForwardContext::make(/*training=*/false, /*seed=*/0, at::arange(n, at::kLong),
                           /*sequence_length=*/1, /*sequence_parallel=*/false, 0, 1);
  const at::Tensor embedded = embed(next_token_ids.t(), position_ids.t(), context);
  const at::Tensor predicted = mtp_->layers()[depth.value_or(0)]->forward(
      hidden_states.transpose(0, 1), embedded, LayerInput{}, context);
  const at::Tensor logits = compute_logits(predicted, /*gather_output=*/true);
  return {predicted.transpose(0, 1).contiguous(), logits.transpose(0, 1).contiguous()};
}

}  // namespace megatron
