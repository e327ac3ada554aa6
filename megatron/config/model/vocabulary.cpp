#include "megatron/config/model/gpt_model_config.h"

namespace megatron {

int64_t GPTModelConfig::padded_vocab_size() const {
  if (!should_pad_vocab) return vocab_size;
  const int64_t multiple = make_vocab_size_divisible_by * transformer.tensor_model_parallel_size;
  return (vocab_size + multiple - 1) / multiple * multiple;
}

}  // namespace megatron
