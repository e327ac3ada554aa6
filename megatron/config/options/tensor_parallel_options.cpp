// Options of communication overlap in tensor parallelism.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

TransformerConfig& overlap_of(Options& options) {
  return options.model.transformer;
}
TpCommOverlapConfig& overlaps_of(Options& options) {
  return options.model.tp_comm_overlap_cfg;
}

}  // namespace

void add_tensor_parallel_options(OptionTable& table) {
  using T = TransformerConfig;
  const auto group = table.group(
      "Tensor parallelism", commands(Command::train, Command::bench, Command::parity), &overlap_of);
  group.add(
      &T::tp_comm_overlap,
      {.flag = "tp-comm-overlap",
       .help = "With --sequence-parallel: split the collectives of linear layers into chunks that "
               "overlap with the GEMMs of other chunks"});
  const CommandSet users = commands(Command::train, Command::bench, Command::parity);
  table.group("Tensor parallelism", users, &overlaps_of)
      .add(&TpCommOverlapConfig::file,
           {.flag = "tp-comm-overlap-cfg",
            .help = "With --tp-comm-overlap: a YAML file that sets the overlap of single linear "
                    "layers, such as 'fc2_fprop: {method: pipeline, num_splits: 8}'; "
                    "docs/tensor_parallelism.md has the names and methods",
            .otherwise = "rings of whole shards, pipelines of 4 pieces",
            .between_ranks = RankAgreement::given});
  group.add(
      &T::defer_embedding_wgrad_compute,
      {.flag = "defer-embedding-wgrad-compute",
       .help =
           "Compute the weight gradient of the output layer at the end of the step, while other "
           "pipeline stages finish"});
  group.add(
      &T::wgrad_deferral_limit,
      {.flag = "wgrad-deferral-limit",
       .help =
           "Number of micro-batches whose output layer weight gradient is deferred; their inputs "
           "and gradients are kept; 0 for all",
       .unit = "micro-batches"});
}

}  // namespace megatron
