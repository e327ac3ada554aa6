#include "megatron/parity/case_sharing.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

bool divides(const ParityCase& parity_case, int64_t data_parallel) {
  return parity_case.num_microbatches() % data_parallel == 0 ||
         parity_case.micro_batch_size() % data_parallel == 0;
}

// The nearest data-parallel sizes that divide the case, with the ranks that they need: "4 (8
// ranks)". A size of 1 always works.
std::string nearest_sizes(const ParityCase& parity_case, int64_t data_parallel,
                          int64_t model_ranks) {
  const int64_t most = std::max(parity_case.num_microbatches(), parity_case.micro_batch_size());
  std::vector<std::string> sizes;
  const auto add = [&](int64_t size) {
    sizes.push_back(fmt::format("{} ({} rank{})", size, size * model_ranks,
                                size * model_ranks == 1 ? "" : "s"));
  };
  int64_t below = std::min(data_parallel, most);
  while (!divides(parity_case, below)) --below;
  add(below);
  int64_t above = data_parallel + 1;
  while (above <= most && !divides(parity_case, above)) ++above;
  if (above <= most) add(above);
  return fmt::format("{}", fmt::join(sizes, " or "));
}

}  // namespace

CaseShare case_share(const ParityCase& parity_case, const TransformerConfig& config,
                     int64_t world_size) {
  const int64_t model_ranks = config.tensor_model_parallel_size *
                              config.pipeline_model_parallel_size * config.context_parallel_size;
  const int64_t data_parallel = world_size / model_ranks;
  const int64_t microbatches = parity_case.num_microbatches(),
                rows = parity_case.micro_batch_size();
  check(divides(parity_case, data_parallel),
        "Expected a data-parallel size that divides the {} micro-batches of case {} or their {} "
        "rows, but got {} ({} ranks); {} would work",
        microbatches, parity_case.name(), rows, data_parallel, world_size,
        nearest_sizes(parity_case, data_parallel, model_ranks));
  if (microbatches % data_parallel == 0)
    return {BatchSharing::whole_microbatches, microbatches / data_parallel, rows};
  return {BatchSharing::rows, microbatches, rows / data_parallel};
}

void check_case_layout(const ParityCase& parity_case, const TransformerConfig& config,
                       int64_t world_size) {
  Problems problems;
  check_microbatch_groups(config, case_share(parity_case, config, world_size).microbatches,
                          problems);
  problems.throw_if_any();
}

}  // namespace megatron
