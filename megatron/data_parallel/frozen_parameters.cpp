#include "megatron/data_parallel/frozen_parameters.h"

#include <sstream>

#include "megatron/base/error.h"
#include "megatron/parallel/object_collectives.h"

namespace megatron {
namespace {

struct ParameterState {
  std::string name;
  bool frozen;
};

// The states of `parameters` on every rank of the group, in group order.
std::vector<std::vector<ParameterState>> gather_states(const std::vector<ParameterPtr>& parameters,
                                                       const ProcessGroup& group) {
  std::string mine;
  for (const ParameterPtr& parameter : parameters)
    mine += fmt::format("{} {}\n", parameter->data.requires_grad() ? 0 : 1, parameter->name);
  std::vector<std::vector<ParameterState>> states;
  for (const std::string& text : all_gather_strings(mine, group)) {
    std::istringstream lines(text);
    ParameterState state;
    states.emplace_back();
    while (lines >> state.frozen >> state.name) states.back().push_back(state);
  }
  return states;
}

// "embedding.word_embeddings.weight is frozen on rank 0"
std::string describe(const ParameterState& state, int rank) {
  return fmt::format("{} is {} on rank {}", state.name, state.frozen ? "frozen" : "trained", rank);
}

void check_group(const std::vector<ParameterPtr>& parameters, const ProcessGroup& group) {
  if (group.size() == 1) return;
  const auto states = gather_states(parameters, group);
  for (size_t rank = 1; rank < states.size(); ++rank) {
    for (size_t i = 0; i < std::min(states[0].size(), states[rank].size()); ++i) {
      const ParameterState &first = states[0][i], &other = states[rank][i];
      check(first.frozen == other.frozen,
            "Expected the same frozen parameters on all ranks of group {}, but {} and {}; freeze "
            "it on all of them or on none",
            group.name(), describe(first, group.ranks()[0]), describe(other, group.ranks()[rank]));
    }
  }
}

// The k-th shared parameter of a rank is a copy of the k-th of the others.
void check_copies(const std::vector<ParameterPtr>& parameters, const ProcessGroup& embd) {
  if (embd.size() == 1) return;
  std::vector<ParameterPtr> shared = parameters;
  std::erase_if(shared, [](const ParameterPtr& parameter) { return !parameter->shared_embedding; });
  const auto states = gather_states(shared, embd);
  for (size_t first = 0; first < states.size(); ++first) {
    for (size_t other = first + 1; other < states.size(); ++other) {
      for (size_t k = 0; k < std::min(states[first].size(), states[other].size()); ++k) {
        check(states[first][k].frozen == states[other][k].frozen,
              "Expected all copies of a shared embedding to be frozen or none, but {} and {}; "
              "freezing both works",
              describe(states[first][k], embd.ranks()[first]),
              describe(states[other][k], embd.ranks()[other]));
      }
    }
  }
}

}  // namespace

void check_frozen_parameters(const std::vector<ParameterPtr>& parameters,
                             const ProcessGroupCollection& groups) {
  check_group(parameters, *groups.dp_cp);
  check_group(parameters, *groups.tp);
  if (groups.embd) check_copies(parameters, *groups.embd);
}

}  // namespace megatron
