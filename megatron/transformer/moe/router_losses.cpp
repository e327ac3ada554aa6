#include "megatron/transformer/moe/router_losses.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace megatron {
namespace {

struct Choices {
  at::Tensor chosen;  // [t, e] fp64: 1 where a token that counts chose the expert
  at::Tensor counts;  // [t] fp64: 1 for tokens that count
  double experts_over_topk;
};

at::Tensor on_tokens(const at::Tensor& weights, const Choices& choices, const at::Tensor& valid) {
  return valid.defined() ? weights * choices.counts.unsqueeze(1) : weights;
}

// Over the micro-batch.
at::Tensor batch_weights(const Choices& choices, const TokenGroup& tokens) {
  const at::Tensor chosen = tokens.sum(choices.chosen.sum(0));
  const double count = std::max(tokens.sum(choices.counts.sum()).item<double>(), 1.0);
  return (chosen * (choices.experts_over_topk / (count * count))).unsqueeze(0);
}

// The sequence of each token, numbered from 0 on every rank alike.
at::Tensor sequence_of_token(const TokenGroup& tokens) {
  const at::Tensor numbers = tokens.sequence_numbers();
  return numbers.defined() ? numbers : at::arange(tokens.rows()).repeat({tokens.positions()});
}

// Over each sequence, and the mean of the sequences that have tokens.
at::Tensor sequence_weights(const Choices& choices, const TokenGroup& tokens,
                            const ProcessGroup& data_parallel, bool shares_rows) {
  const at::Tensor sequence = sequence_of_token(tokens).to(choices.chosen.device());
  at::Tensor last = sequence.max().to(at::kCPU).clone();
  if (tokens.sequence_numbers().defined()) {
    const at::Tensor all = tokens.gather(sequence);
    last = all.max().cpu();
  }
  const int64_t sequences = last.item<int64_t>() + 1;
  const auto by_sequence = [&](const at::Tensor& of_tokens) {
    std::vector<int64_t> shape = of_tokens.sizes().vec();
    shape[0] = sequences;
    return tokens.sum_over_positions(
        at::zeros(shape, of_tokens.options()).index_add(0, sequence, of_tokens));
  };
  const at::Tensor chosen = by_sequence(choices.chosen), counts = by_sequence(choices.counts);
  const at::Tensor used = counts.gt(0).sum(at::kDouble);
  if (shares_rows) data_parallel.all_reduce(used.view({-1}));
  const double mean = choices.experts_over_topk / std::max(used.item<double>(), 1.0);
  const at::Tensor over = counts.clamp_min(1).square().unsqueeze(1);
  return (chosen * mean / over).index_select(0, sequence);
}

// Over the global batch so far: the micro-batches before this one in the order of one rank, and this
// one. Data-parallel ranks run neighbouring micro-batches at the same time.
at::Tensor global_weights(const Choices& choices, const TokenGroup& tokens,
                          const ProcessGroup& data_parallel, bool shares_rows,
                          MoeStep::Layer* layer) {
  const at::Tensor chosen = tokens.sum(choices.chosen.sum(0)).cpu();
  const at::Tensor count = tokens.sum(choices.counts.sum()).view({1}).cpu();
  MoeStep::Layer alone;
  if (layer == nullptr) {
    layer = &alone;
    layer->global_choices = at::zeros_like(chosen);
  }
  at::Tensor so_far = layer->global_choices.clone();
  double tokens_so_far = layer->global_tokens, microbatches = layer->global_microbatches;
  const int64_t ranks = shares_rows ? 1 : data_parallel.size();
  const int64_t rank = shares_rows ? 0 : data_parallel.rank();
  at::Tensor by_rank = at::cat({chosen, count}).unsqueeze(0);
  if (ranks > 1) {
    by_rank = data_parallel.all_gather(by_rank.to(data_parallel.device())).cpu();
  }
  const auto add = [&](int64_t of_rank) {
    so_far = so_far + by_rank[of_rank].narrow(0, 0, chosen.size(0));
    tokens_so_far += by_rank[of_rank][-1].item<double>();
    microbatches += 1;
  };
  for (int64_t i = 0; i <= rank; ++i) add(i);
  const at::Tensor seen = so_far;
  const double mean_tokens = std::max(tokens_so_far, 1.0) / microbatches;
  const double seen_microbatches = microbatches;
  for (int64_t i = rank + 1; i < ranks; ++i) add(i);
  layer->global_choices = so_far;
  layer->global_tokens = tokens_so_far;
  layer->global_microbatches = microbatches;
  return (seen * (choices.experts_over_topk / (seen_microbatches * mean_tokens * mean_tokens)))
      .unsqueeze(0)
      .to(choices.chosen.device());
}

}  // namespace

std::vector<RouterLoss> balancing_losses(const MoeConfig& config, const at::Tensor& chosen,
                                         const at::Tensor& valid, const TokenGroup& tokens,
                                         const ProcessGroup& data_parallel, bool shares_rows,
                                         MoeStep::Layer* layer) {
  Choices choices{
      .chosen = chosen.to(at::kDouble),
      .counts = valid.defined() ? valid.to(at::kDouble)
                                : at::ones({chosen.size(0)}, chosen.options().dtype(at::kDouble)),
      .experts_over_topk = double(*config.num_moe_experts) / double(config.moe_router_topk)};
  if (valid.defined()) choices.chosen.mul_(choices.counts.unsqueeze(1));
  std::vector<RouterLoss> losses;
  const auto add = [&](const char* type, const char* name, const auto& weights) {
    const double coefficient = config.aux_loss_coeff(type);
    if (coefficient == 0) return;
    losses.push_back({.name = name,
                      .coefficient = coefficient,
                      .weights = on_tokens(weights(), choices, valid)});
  };
  add("aux_loss", "load_balancing_loss", [&] { return batch_weights(choices, tokens); });
  add("seq_aux_loss", "seq_load_balancing_loss",
      [&] { return sequence_weights(choices, tokens, data_parallel, shares_rows); });
  add("global_aux_loss", "global_load_balancing_loss",
      [&] { return global_weights(choices, tokens, data_parallel, shares_rows, layer); });
  return losses;
}

}  // namespace megatron
