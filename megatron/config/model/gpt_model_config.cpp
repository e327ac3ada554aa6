#include "megatron/config/model/gpt_model_config.h"

#include "megatron/base/integer_math.h"

namespace megatron {

int64_t GPTModelConfig::padded_vocab_size() const {
  if (!should_pad_vocab) return vocab_size;
  const int64_t multiple = make_vocab_size_divisible_by * transformer.tensor_model_parallel_size;
  return round_up(vocab_size, multiple);
}

void GPTModelConfig::reset_layout() {
  if (should_pad_vocab) make_vocab_size_divisible_by *= transformer.tensor_model_parallel_size;
  transformer.reset_layout();
}

}  // namespace megatron
