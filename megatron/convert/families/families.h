// The families, one file each. families.cpp lists them.
#pragma once

#include "megatron/convert/hf_family.h"

namespace megatron {

HfFamily llama_family();
HfFamily mistral_family();
HfFamily qwen2_family();
HfFamily qwen3_family();
HfFamily gpt2_family();
HfFamily starcoder2_family();
HfFamily phi3_family();
HfFamily seed_oss_family();
HfFamily smollm3_family();
HfFamily arcee_family();
HfFamily gemma_family();
HfFamily gemma2_family();
HfFamily gemma3_family();
HfFamily glm4_family();
HfFamily cohere_family();
HfFamily cohere2_family();
HfFamily olmo2_family();
HfFamily olmo3_family();
HfFamily granite_family();
HfFamily nemotron_family();
HfFamily exaone4_family();
HfFamily ernie4_5_family();
HfFamily gpt_neox_family();

}  // namespace megatron
