#include "megatron/base/integer_math.h"
#include "megatron/config/model/gpt_model_config.h"

namespace megatron {

int64_t GPTModelConfig::padded_vocab_size() const {
  if (!should_pad_vocab) return vocab_size;
  const int64_t multiple = make_vocab_size_divisible_by * transformer.tensor_model_parallel_size;
  return round_up(vocab_size, multiple);
}

}  // namespace megatron
