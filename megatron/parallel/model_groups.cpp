#include "megatron/parallel/model_groups.h"

#include <fmt/format.h>

namespace megatron {

ParallelSizes parallel_sizes(const TransformerConfig& config, int world_size) {
  ParallelSizes sizes;
  sizes.tp = static_cast<int>(config.tensor_model_parallel_size);
  sizes.pp = static_cast<int>(config.pipeline_model_parallel_size);
  sizes.cp = static_cast<int>(config.context_parallel_size);
  return with_data_parallel(sizes, world_size);
}

ProcessGroupCollection make_model_groups(const TransformerConfig& config, const RankContext& rank) {
  return rank.make_groups(parallel_sizes(config, rank.world_size));
}

std::string describe_world(const TransformerConfig& config, const RankContext& rank) {
  const ParallelSizes sizes = parallel_sizes(config, rank.world_size);
  return fmt::format("TP={}{} x PP={}{} x DP={}, {} rank{} ({}), {} thread{} each", sizes.tp,
                     config.sequence_parallel ? "+SP" : "", sizes.pp,
                     sizes.cp == 1 ? "" : fmt::format(" x CP={}", sizes.cp), sizes.dp,
                     rank.world_size, rank.world_size == 1 ? "" : "s",
                     rank.transport ? rank.transport->kind() : "one process", rank.threads,
                     rank.threads == 1 ? "" : "s");
}

}  // namespace megatron
