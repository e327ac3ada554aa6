#include "megatron/ops/grouped/permutation.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"
#include "megatron/ops/core/dispatch.h"

namespace megatron {

namespace {

// One copy of a token on its way to an expert.
struct RoutedCopy {
  int64_t token, choice;
};

using CopiesOfExperts = std::vector<std::vector<RoutedCopy>>;

void check_permutation_options(const PermutationOptions& options, const at::Tensor& probs,
                               at::IntArrayRef shape, std::string_view operation) {
  check(options.capacity >= 0, "{}: Expected a capacity of at least 0 (0: no limit), but got {}",
        operation, options.capacity);
  check(options.row_multiple >= 1, "{}: Expected a row_multiple of at least 1, but got {}",
        operation, options.row_multiple);
  check(!options.pad_to_capacity || options.capacity > 0,
        "{}: Expected a capacity with pad_to_capacity, but got none", operation);
  check(!options.pad_to_capacity || options.capacity % options.row_multiple == 0,
        "{}: Expected a capacity that is a multiple of row_multiple = {}, but got {}; {} works",
        operation, options.row_multiple, options.capacity,
        round_up(options.capacity, options.row_multiple));
  if (options.capacity == 0 || options.drop_policy != DropPolicy::probability) return;
  check_floating(probs, operation, "probs");
  check_shape(probs, shape, operation, "probs");
}

// Keeps `capacity` copies, in the order of their tokens.
void drop_copies(std::vector<RoutedCopy>& copies, int64_t capacity, const double* probs,
                 int64_t choices) {
  if (probs != nullptr) {
    std::stable_sort(copies.begin(), copies.end(), [&](const RoutedCopy& a, const RoutedCopy& b) {
      return probs[a.token * choices + a.choice] > probs[b.token * choices + b.choice];
    });
  }
  copies.resize(capacity);
  std::sort(copies.begin(), copies.end(),
            [](const RoutedCopy& a, const RoutedCopy& b) { return a.token < b.token; });
}

at::Tensor index_tensor(int64_t size) {
  return at::empty({size}, at::TensorOptions(at::kLong));
}

// `copies` of each expert, in the order of their tokens.
ExpertPermutation make_permutation(CopiesOfExperts copies, int64_t tokens, int64_t choices,
                                   const PermutationOptions& options, const at::Tensor& probs) {
  ExpertPermutation result;
  result.tokens = tokens;
  result.experts = static_cast<int64_t>(copies.size());
  result.choices = choices;
  const at::Tensor wide_probs =
      options.capacity > 0 && options.drop_policy == DropPolicy::probability
          ? probs.detach().to(at::kCPU, at::kDouble).contiguous()
          : at::Tensor();
  result.counts = index_tensor(result.experts);
  auto* counts = result.counts.mutable_data_ptr<int64_t>();
  int64_t rows = 0;
  for (int64_t expert = 0; expert < result.experts; ++expert) {
    auto& list = copies[expert];
    const auto size = static_cast<int64_t>(list.size());
    if (options.capacity > 0 && size > options.capacity) {
      result.dropped += size - options.capacity;
      drop_copies(list, options.capacity, data_or_null<const double>(wide_probs), choices);
    }
    counts[expert] = options.pad_to_capacity
                         ? options.capacity
                         : round_up(static_cast<int64_t>(list.size()), options.row_multiple);
    rows += counts[expert];
  }

  result.row_token = at::full({rows}, -1, at::TensorOptions(at::kLong));
  result.row_choice = at::full({rows}, -1, at::TensorOptions(at::kLong));
  result.token_offsets = at::zeros({tokens + 1}, at::TensorOptions(at::kLong));
  auto* row_token = result.row_token.mutable_data_ptr<int64_t>();
  auto* row_choice = result.row_choice.mutable_data_ptr<int64_t>();
  auto* offsets = result.token_offsets.mutable_data_ptr<int64_t>();
  int64_t first = 0;
  for (int64_t expert = 0; expert < result.experts; ++expert) {
    int64_t row = first;
    for (const RoutedCopy& copy : copies[expert]) {
      row_token[row] = copy.token;
      row_choice[row] = copy.token * choices + copy.choice;
      ++offsets[copy.token + 1];
      ++row;
    }
    first += counts[expert];
  }
  std::partial_sum(offsets, offsets + tokens + 1, offsets);
  result.token_rows = index_tensor(offsets[tokens]);
  auto* token_rows = result.token_rows.mutable_data_ptr<int64_t>();
  std::vector<int64_t> next(offsets, offsets + tokens);
  for (int64_t row = 0; row < rows; ++row) {
    if (row_token[row] >= 0) token_rows[next[row_token[row]]++] = row;
  }
  return result;
}

}  // namespace

ExpertPermutation permutation_from_map(const at::Tensor& routing_map,
                                       const PermutationOptions& options, const at::Tensor& probs) {
  constexpr std::string_view operation = "permutation_from_map";
  check_defined(routing_map, operation, "routing_map");
  check(routing_map.dim() == 2 && routing_map.scalar_type() == at::kBool,
        "{}: Expected routing_map of shape [tokens, experts] and dtype bool, but got [{}] of {}",
        operation, fmt::join(routing_map.sizes(), ", "), c10::toString(routing_map.scalar_type()));
  check_permutation_options(options, probs, routing_map.sizes(), operation);
  const at::Tensor map = routing_map.to(at::kCPU).contiguous();
  const int64_t tokens = map.size(0), experts = map.size(1);
  const bool* chosen = map.const_data_ptr<bool>();
  CopiesOfExperts copies(experts);
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t expert = 0; expert < experts; ++expert) {
      if (chosen[token * experts + expert]) copies[expert].push_back({token, expert});
    }
  }
  return make_permutation(std::move(copies), tokens, experts, options, probs);
}

ExpertPermutation permutation_from_indices(const at::Tensor& indices, int64_t experts,
                                           const PermutationOptions& options,
                                           const at::Tensor& probs) {
  constexpr std::string_view operation = "permutation_from_indices";
  check_defined(indices, operation, "indices");
  check(indices.dim() == 2 && indices.scalar_type() == at::kLong,
        "{}: Expected indices of shape [tokens, k] and dtype int64, but got [{}] of {}", operation,
        fmt::join(indices.sizes(), ", "), c10::toString(indices.scalar_type()));
  check(experts >= 1, "{}: Expected at least 1 expert, but got {}", operation, experts);
  check_permutation_options(options, probs, indices.sizes(), operation);
  const at::Tensor chosen = indices.to(at::kCPU).contiguous();
  const int64_t tokens = chosen.size(0), choices = chosen.size(1);
  const auto* expert_of = chosen.const_data_ptr<int64_t>();
  CopiesOfExperts copies(experts);
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t choice = 0; choice < choices; ++choice) {
      const int64_t expert = expert_of[token * choices + choice];
      if (expert == -1) continue;
      check(expert >= 0 && expert < experts,
            "{}: Expected indices from 0 to {}, or -1 for none, but got {} for token {}", operation,
            experts - 1, expert, token);
      auto& list = copies[expert];
      check(list.empty() || list.back().token != token,
            "{}: Expected distinct experts for each token, but got expert {} twice for token {}",
            operation, expert, token);
      list.push_back({token, choice});
    }
  }
  return make_permutation(std::move(copies), tokens, choices, options, probs);
}

}  // namespace megatron
