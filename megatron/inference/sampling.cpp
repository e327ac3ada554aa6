#include "megatron/inference/sampling.h"

#include <algorithm>
#include <limits>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/ops/random/philox.h"

namespace megatron {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

// A number in [0, 1) that is a function of the arguments alone.
double uniform(uint64_t seed, int64_t row, int64_t position) {
  const uint64_t key = hash_name(seed, "sampling");
  const auto words =
      philox4x32_10({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                     static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)},
                    {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
  return (words[0] + (static_cast<double>(words[1] >> 5) / 134217728.0)) / 4294967296.0;
}

void keep_top_k(at::Tensor& logits, int64_t k) {
  const at::Tensor least =
      std::get<0>(logits.topk(std::min(k, logits.size(1)), /*dim=*/1)).select(1, -1);
  logits.masked_fill_(logits < least.unsqueeze(1), kMinusInfinity);
}

// Compares the probability before each token, so that the most likely one always stays.
void keep_top_p(at::Tensor& logits, double p) {
  const auto [sorted, order] = logits.sort(/*dim=*/1, /*descending=*/true);
  const at::Tensor probabilities = sorted.softmax(1);
  const at::Tensor before = probabilities.cumsum(1) - probabilities;
  const at::Tensor kept = sorted.masked_fill(before > p, kMinusInfinity);
  logits.scatter_(1, order, kept);
}

}  // namespace

at::Tensor sample_tokens(const at::Tensor& logits, int64_t vocab_size, const SamplingParams& params,
                         int64_t position, const at::Tensor& known_ids) {
  check(params.top_k == 0 || params.top_p == 0.0, "Expected --top-k or --top-p, but got both");
  const int64_t v = known_ids.defined() ? known_ids.size(0) : vocab_size;
  at::Tensor scores = logits.narrow(1, 0, v).detach().cpu().to(at::kDouble).contiguous();
  if (known_ids.defined()) {
    check(known_ids.any().item<bool>(), "Expected at least one known token id, but got none");
    scores = scores.masked_fill(known_ids.logical_not(), kMinusInfinity);
  }
  if (params.temperature == 0.0 || params.top_k == 1) return scores.argmax(1);
  scores = scores / params.temperature;
  if (params.top_k > 0) keep_top_k(scores, params.top_k);
  if (params.top_p > 0.0) keep_top_p(scores, params.top_p);
  const at::Tensor cumulative = scores.softmax(1).cumsum(1);
  at::Tensor tokens = at::empty({scores.size(0)}, at::kLong);
  for (int64_t row = 0; row < scores.size(0); ++row) {
    const double* sums = cumulative[row].data_ptr<double>();
    // The first token whose cumulative probability exceeds the draw. The draw is scaled by the
    // total, which rounding may leave a little below 1; a draw that rounds to the total chooses the
    // last token of nonzero probability.
    const double total = sums[v - 1], draw = uniform(params.seed, row, position) * total;
    tokens[row] = std::min<int64_t>(std::upper_bound(sums, sums + v, draw) - sums,
                                    std::lower_bound(sums, sums + v, total) - sums);
  }
  return tokens;
}

}  // namespace megatron
