#include "megatron/convert/families/families.h"

namespace megatron {

const std::vector<HfFamily>& hf_families() {
  static const std::vector<HfFamily> families = {
      llama_family(),   gpt2_family(),     mistral_family(),    qwen2_family(),   qwen3_family(),
      smollm3_family(), arcee_family(),    starcoder2_family(), phi3_family(),    seed_oss_family(),
      gemma_family(),   gemma2_family(),   gemma3_family(),     glm4_family(),    cohere_family(),
      cohere2_family(), olmo2_family(),    olmo3_family(),      granite_family(), nemotron_family(),
      exaone4_family(), ernie4_5_family(), gpt_neox_family()};
  return families;
}

}  // namespace megatron
