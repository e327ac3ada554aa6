#include "megatron/inference/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/ops/random/philox.h"

namespace megatron {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

using Scores = std::vector<double>;

// A number in [0, 1) that is a function of the arguments alone.
double uniform(uint64_t seed, int64_t row, int64_t position) {
  const uint64_t key = hash_name(seed, "sampling");
  const auto words =
      philox4x32_10({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                     static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)},
                    {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
  return (words[0] + (static_cast<double>(words[1] >> 5) / 134217728.0)) / 4294967296.0;
}

Scores scores_of(const at::Tensor& logits, int64_t v) {
  const at::Tensor wide = logits.narrow(0, 0, v).detach().to(at::kDouble).contiguous();
  const double* values = wide.const_data_ptr<double>();
  return {values, values + v};
}

// The lowest index of the largest finite value; v without any.
template <typename Value>
int64_t largest(const Value* values, int64_t v, const bool* known) {
  int64_t best = v;
  for (int64_t id = 0; id < v; ++id) {
    if (known != nullptr && !known[id]) continue;
    if (std::isfinite(values[id]) && (best == v || values[id] > values[best])) best = id;
  }
  return best;
}

void penalise(Scores& scores, const SamplingParams& params, const SamplingContext& context) {
  const auto v = static_cast<int64_t>(scores.size());
  for (const auto& [id, bias] : params.logit_bias) {
    if (id < v) scores[id] += bias;
  }
  const std::set<int64_t> output(context.output.begin(), context.output.end());
  if (params.repetition_penalty != 1.0) {
    std::set<int64_t> seen = output;
    seen.insert(context.prompt.begin(), context.prompt.end());
    for (const int64_t id : seen) {
      if (id >= v) continue;
      double& score = scores[id];
      score = score > 0 ? score / params.repetition_penalty : score * params.repetition_penalty;
    }
  }
  if (params.presence_penalty != 0.0) {
    for (const int64_t id : output) {
      if (id < v) scores[id] -= params.presence_penalty;
    }
  }
}

void keep_top_k(Scores& scores, int64_t k) {
  if (k >= std::ssize(scores)) return;
  Scores sorted = scores;
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  const double least = sorted[k - 1];
  for (double& score : scores) {
    if (score < least) score = kMinusInfinity;
  }
}

double exponential_sum(const Scores& scores, double maximum) {
  double sum = 0.0;
  for (const double score : scores) sum += std::exp(score - maximum);
  return sum;
}

// Compares the probability before each token, so that the most likely one always stays. Tokens
// below (1 - p) / v come after a total of more than p and need not be sorted.
void keep_top_p(Scores& scores, double p) {
  const double maximum = std::ranges::max(scores);
  const double sum = exponential_sum(scores, maximum);
  const double least = (1.0 - p) / static_cast<double>(scores.size()) * (1.0 - 1e-9);
  std::vector<int64_t> order;
  for (int64_t id = 0; id < std::ssize(scores); ++id) {
    if (std::exp(scores[id] - maximum) / sum >= least) order.push_back(id);
  }
  std::ranges::stable_sort(order, std::greater<>(), [&](int64_t id) { return scores[id]; });
  Scores kept(scores.size(), kMinusInfinity);
  double before = 0.0;
  for (const int64_t id : order) {
    if (before > p) break;
    kept[id] = scores[id];
    before += std::exp(scores[id] - maximum) / sum;
  }
  scores = std::move(kept);
}

void keep_min_p(Scores& scores, double p) {
  const double least = std::ranges::max(scores) + std::log(p);
  for (double& score : scores) {
    if (score < least) score = kMinusInfinity;
  }
}

// The first token whose cumulative probability exceeds the draw. The draw is scaled by the total; a
// draw that rounds to it chooses the last token of nonzero probability.
int64_t draw(const Scores& scores, double uniform_number) {
  const double maximum = std::ranges::max(scores);
  Scores sums(scores.size());
  double sum = 0.0;
  for (size_t id = 0; id < scores.size(); ++id) sums[id] = sum += std::exp(scores[id] - maximum);
  return std::min<int64_t>(std::ranges::upper_bound(sums, uniform_number * sum) - sums.begin(),
                           std::ranges::lower_bound(sums, sum) - sums.begin());
}

}  // namespace

void check_sampling(const SamplingParams& params, int64_t vocab_size) {
  check(std::isfinite(params.temperature) && params.temperature >= 0,
        "Expected temperature of at least 0, but got {}; 0 is greedy decoding", params.temperature);
  check(params.top_k >= 0, "Expected top_k of at least 0, but got {}; 0 samples from all tokens",
        params.top_k);
  check(params.top_p >= 0 && params.top_p <= 1,
        "Expected top_p between 0 and 1, but got {}; 0 samples from all tokens", params.top_p);
  check(params.top_k == 0 || params.top_p == 0.0,
        "Expected top_k or top_p, but got both ({} and {}); 0 turns one off", params.top_k,
        params.top_p);
  check(params.min_p >= 0 && params.min_p <= 1,
        "Expected min_p between 0 and 1, but got {}; 0 samples from all tokens", params.min_p);
  check(std::isfinite(params.repetition_penalty) && params.repetition_penalty > 0,
        "Expected repetition_penalty above 0, but got {}; 1 is no penalty",
        params.repetition_penalty);
  check(std::isfinite(params.presence_penalty),
        "Expected a finite presence_penalty, but got {}; 0 is no penalty", params.presence_penalty);
  for (const auto& [id, bias] : params.logit_bias) {
    check(id >= 0 && id < vocab_size,
          "Expected logit_bias of ids below the model's vocabulary size {}, but got id {}",
          vocab_size, id);
    check(std::isfinite(bias), "Expected a finite logit_bias of id {}, but got {}", id, bias);
  }
}

int64_t sample_token(const at::Tensor& logits, int64_t vocab_size, const SamplingParams& params,
                     const SamplingContext& context) {
  check_sampling(params, vocab_size);
  const at::Tensor& known_ids = context.known_ids;
  const int64_t v = known_ids.defined() ? known_ids.size(0) : vocab_size;
  const bool* known = nullptr;
  if (known_ids.defined()) {
    known = known_ids.const_data_ptr<bool>();
    check(std::any_of(known, known + v, [](bool is_known) { return is_known; }),
          "Expected at least one known token id, but got none");
  }
  const bool is_greedy = params.temperature == 0.0 || params.top_k == 1;
  const bool changes_scores = !params.logit_bias.empty() || params.repetition_penalty != 1.0 ||
                              params.presence_penalty != 0.0;
  int64_t best = v;
  Scores scores;
  if (is_greedy && !changes_scores && logits.scalar_type() == at::kFloat &&
      logits.is_contiguous()) {
    best = largest(logits.const_data_ptr<float>(), v, known);
  } else {
    scores = scores_of(logits, v);
    penalise(scores, params, context);
    best = largest(scores.data(), v, known);
  }
  check(best < v, "Expected finite logits, but the model returned none");
  if (is_greedy) return best;
  for (int64_t id = 0; id < v; ++id) {
    check(!std::isnan(scores[id]), "Expected finite logits, but got nan for token {}", id);
    scores[id] = known != nullptr && !known[id] ? kMinusInfinity : scores[id] / params.temperature;
  }
  if (params.top_k > 0) keep_top_k(scores, params.top_k);
  if (params.top_p > 0.0) keep_top_p(scores, params.top_p);
  if (params.min_p > 0.0) keep_min_p(scores, params.min_p);
  return draw(scores, uniform(params.seed, context.row, context.position));
}

TokenLogprob token_logprob(const at::Tensor& logits, int64_t vocab_size, int64_t token,
                           int64_t top) {
  const Scores scores = scores_of(logits, vocab_size);
  const double maximum = std::ranges::max(scores);
  const double normalizer = maximum + std::log(exponential_sum(scores, maximum));
  TokenLogprob result{.token = token, .logprob = scores[token] - normalizer};
  if (top == 0) return result;
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const int64_t count = std::min<int64_t>(top, vocab_size);
  std::ranges::partial_sort(order, order.begin() + count, [&](int64_t a, int64_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  });
  for (int64_t i = 0; i < count; ++i)
    result.top.emplace_back(order[i], scores[order[i]] - normalizer);
  return result;
}

}  // namespace megatron
