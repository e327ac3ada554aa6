#include "megatron/config/model/batch_size.h"

namespace megatron {

int64_t global_batch_size(const BatchConfig& config, int64_t data_parallel_size) {
  return config.global_batch_size.value_or(config.micro_batch_size * data_parallel_size);
}

}  // namespace megatron
