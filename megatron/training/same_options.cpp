#include "megatron/training/same_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "megatron/config/options/options_json.h"
#include "megatron/parallel/object_collectives.h"

namespace megatron {
namespace {

// The flags in which the first of `others` differs from rank 0, with both values.
std::string difference_from_first(const Options& options, const ProcessGroup& world,
                                  const std::vector<int>& others) {
  const std::vector<std::string> texts = all_gather_strings(shared_options_text(options), world);
  const int other = others.front();
  const auto differences =
      shared_options_differences(texts.at(0), texts.at(static_cast<size_t>(other)));
  constexpr size_t kMost = 4;
  std::vector<std::string> texts_by_flag;
  for (const auto& [flag, first, second] : differences) {
    if (texts_by_flag.size() == kMost) {
      texts_by_flag.push_back(fmt::format("{} more", differences.size() - kMost));
      break;
    }
    texts_by_flag.push_back(
        fmt::format("{} is {} on rank 0 and {} on rank {}", flag, first, second, other));
  }
  return fmt::format("{}", fmt::join(texts_by_flag, ", "));
}

}  // namespace

void check_same_options(const Options& options, const RankContext& rank) {
  const ProcessGroupCollection groups = rank.make_groups({.dp = rank.world_size});
  const ProcessGroup& world = *groups.world;
  check_same_on_all_ranks(world, "options", options_hash(options), [&](const auto& others) {
    return difference_from_first(options, world, others);
  });
}

}  // namespace megatron
