#include "megatron/planner/training_memory.h"

#include <set>

#include "megatron/base/dtype.h"
#include "megatron/data_parallel/parameter_buckets.h"

namespace megatron {
namespace {

// Bytes of storages, each counted once. Freed storages count as 0.
class StorageBytes {
 public:
  int64_t add(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.has_storage()) return 0;
    const c10::Storage& storage = tensor.storage();
    if (storage.data() == nullptr || !known_.insert(storage.unsafeGetStorageImpl()).second)
      return 0;
    return static_cast<int64_t>(storage.nbytes());
  }

 private:
  std::set<const c10::StorageImpl*> known_;
};

}  // namespace

TrainingMemory planned_training_memory(int64_t numel, at::ScalarType dtype,
                                       const DistributedDataParallelConfig& ddp,
                                       OptimizerType optimizer, int64_t data_parallel_size) {
  const auto size = [](at::ScalarType type) {
    return static_cast<int64_t>(c10::elementSize(type));
  };
  const at::ScalarType wide = accumulation_dtype(dtype);
  const bool masters = wide != dtype;
  const int64_t kept = (optimizer == OptimizerType::adam ? 2 : 1) + (masters ? 1 : 0);
  const auto level = static_cast<int>(sharding_strategy(ddp));
  const auto share = [&](int from_level, int64_t bytes) {
    return level >= from_level ? bytes / data_parallel_size : bytes;
  };
  return {.parameters = share(3, numel * size(dtype)),
          .gradients = share(2, numel * size(ddp.grad_reduce_in_fp32 ? wide : dtype)),
          .optimizer_state = share(1, numel * kept * size(wide))};
}

TrainingMemory held_training_memory(const std::vector<ParameterPtr>& parameters,
                                    Optimizer& optimizer) {
  StorageBytes bytes;
  TrainingMemory held;
  for (const ParameterPtr& parameter : parameters) {
    held.parameters += bytes.add(parameter->data);
    held.gradients += bytes.add(parameter->main_grad);
  }
  for (const OptimizerState& state : optimizer.states()) {
    held.parameters += bytes.add(state.slice.data);
    held.gradients += bytes.add(state.slice.main_grad);
    held.optimizer_state +=
        bytes.add(state.master) + bytes.add(state.exp_avg) + bytes.add(state.exp_avg_sq);
  }
  return held;
}

}  // namespace megatron
