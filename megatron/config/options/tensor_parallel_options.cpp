// Options of communication overlap in tensor parallelism.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

TransformerConfig& overlap_of(Options& options) {
  return options.model.transformer;
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
