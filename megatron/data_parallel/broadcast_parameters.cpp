#include "megatron/data_parallel/broadcast_parameters.h"

#include "megatron/base/error.h"

namespace megatron {

void broadcast_parameters(const std::vector<ParameterPtr>& parameters,
                          const ProcessGroup& data_parallel,
                          const ProcessGroup& expert_data_parallel) {
  for (const ParameterPtr& parameter : parameters) {
    if (parameter->data.is_meta()) continue;
    check(parameter->data.storage().data() != nullptr || parameter->data.numel() == 0,
          "Expected parameters that are not sharded yet to broadcast, but got {}; broadcasting "
          "before DistributedDataParallel is constructed works",
          parameter->name);
    const ProcessGroup& copies = parameter->expert ? expert_data_parallel : data_parallel;
    copies.broadcast(parameter->data.detach(), /*group_root=*/0);
  }
}

}  // namespace megatron
