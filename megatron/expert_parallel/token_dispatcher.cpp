#include "megatron/expert_parallel/token_dispatcher.h"

#include "megatron/base/error.h"
#include "megatron/expert_parallel/all_gather_dispatcher.h"
#include "megatron/expert_parallel/all_to_all_dispatcher.h"

namespace megatron {

std::unique_ptr<TokenDispatcher> make_token_dispatcher(MoeTokenDispatcherType type, int64_t experts,
                                                       const ProcessGroupCollection& groups) {
  check(experts % groups.ep->size() == 0,
        "Expected an expert parallel size that divides the {} experts, but got {}", experts,
        groups.ep->size());
  if (type == MoeTokenDispatcherType::allgather)
    return std::make_unique<AllGatherDispatcher>(experts, groups);
  return std::make_unique<AllToAllDispatcher>(groups);
}

}  // namespace megatron
