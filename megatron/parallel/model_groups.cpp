#include "megatron/parallel/model_groups.h"

#include <algorithm>

#include <fmt/format.h>

#include "megatron/config/model/pipeline_layout.h"

namespace megatron {

ParallelSizes parallel_sizes(const TransformerConfig& config, int world_size) {
  ParallelSizes sizes;
  sizes.tp = static_cast<int>(config.tensor_model_parallel_size);
  sizes.pp = static_cast<int>(config.pipeline_model_parallel_size);
  sizes.cp = static_cast<int>(config.context_parallel_size);
  sizes.ep = static_cast<int>(config.expert_model_parallel_size);
  sizes.expt_tp = static_cast<int>(config.expert_tensor_parallel());
  return with_data_parallel(sizes, world_size);
}

ProcessGroupCollection make_model_groups(const TransformerConfig& config, const RankContext& rank) {
  return rank.make_groups(parallel_sizes(config, rank.world_size));
}

ProcessGroupCollection make_model_groups(const GPTModelConfig& config, const RankContext& rank) {
  const TransformerConfig& transformer = config.transformer;
  ProcessGroupCollection groups = make_model_groups(transformer, rank);
  const PipelineLayout layout = PipelineLayout::of(transformer);
  if (transformer.mtp.mtp_num_layers == 0 || !layout.mtp_standalone()) return groups;
  const std::vector<int>& stages = groups.pp->ranks();
  std::vector<int> members = {stages.front(), stages[layout.mtp_stage()]};
  if (config.share_embeddings_and_output_weights) members.push_back(stages.back());
  groups.embd = nullptr;
  if (std::ranges::find(members, rank.rank) != members.end()) {
    groups.embd = std::make_shared<ProcessGroup>("embd", members, rank.rank,
                                                 rank.transport->make_backend("embd_mtp", members),
                                                 rank.timeout, rank.device);
  }
  return groups;
}

std::string describe_world(const TransformerConfig& config,
                           const DistributedDataParallelConfig& ddp, const RankContext& rank) {
  const ParallelSizes sizes = parallel_sizes(config, rank.world_size);
  const int chunks = PipelineLayout::of(config).chunks();
  std::string experts;
  if (config.moe.has_experts()) {
    experts = fmt::format(", experts EP={} x ETP={} x DP={}", sizes.ep, sizes.expt_tp,
                          RankGrid(sizes).expert_data_parallel_size());
  }
  return fmt::format("TP={}{} x PP={}{}{} x DP={}{}{}, {} rank{} ({}), {} thread{} each", sizes.tp,
                     config.sequence_parallel ? "+SP" : "", sizes.pp,
                     chunks > 1 ? fmt::format(" (x{} virtual)", chunks) : "",
                     sizes.cp == 1 ? "" : fmt::format(" x CP={}", sizes.cp), sizes.dp,
                     describe_sharing(ddp), experts, rank.world_size,
                     rank.world_size == 1 ? "" : "s",
                     rank.transport ? rank.transport->kind() : "one process", rank.threads,
                     rank.threads == 1 ? "" : "s");
}

}  // namespace megatron
