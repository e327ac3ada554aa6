#include "megatron/data_parallel/broadcast_parameters.h"

#include "megatron/base/error.h"

namespace megatron {

void broadcast_parameters(const std::vector<ParameterPtr>& parameters,
                          const ProcessGroup& data_parallel) {
  for (const ParameterPtr& parameter : parameters) {
    check(parameter->data.storage().data() != nullptr || parameter->data.numel() == 0,
          "Expected parameters that are not sharded yet to broadcast, but got {}; broadcasting "
          "before DistributedDataParallel is constructed works",
          parameter->name);
    data_parallel.broadcast(parameter->data.detach(), /*group_root=*/0);
  }
}

}  // namespace megatron
