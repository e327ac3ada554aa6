#include "megatron/training/same_options.h"

#include "megatron/config/options_json.h"

namespace megatron {

void check_same_options(const Options& options, const RankContext& rank) {
  const ProcessGroupCollection groups = rank.make_groups({.dp = rank.world_size});
  check_same_on_all_ranks(*groups.world, "options", options_hash(options));
}

}  // namespace megatron
