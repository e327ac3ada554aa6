#include "megatron/convert/unsupported_families.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "megatron/base/error.h"

namespace megatron {
namespace {

struct Reason {
  const char* word;  // part of the architecture or model_type, in lower case
  const char* text;
};

// The first word that occurs decides.
constexpr Reason kReasons[] = {
    {"mamba", "state-space layers (Mamba) are not GPT layers"},
    {"jamba", "state-space layers (Mamba) are not GPT layers"},
    {"zamba", "state-space layers (Mamba) are not GPT layers"},
    {"bamba", "state-space layers (Mamba) are not GPT layers"},
    {"nemotronh", "state-space layers (Mamba) are not GPT layers"},
    {"nemotron_h", "state-space layers (Mamba) are not GPT layers"},
    {"granitemoehybrid", "state-space layers (Mamba) are not GPT layers"},
    {"falconh1", "state-space layers (Mamba) are not GPT layers"},
    {"falcon_h1", "state-space layers (Mamba) are not GPT layers"},
    {"rwkv", "recurrent layers (RWKV) are not GPT layers"},
    {"recurrentgemma", "recurrent layers are not GPT layers"},
    {"recurrent_gemma", "recurrent layers are not GPT layers"},
    {"qwen3next", "gated delta net layers are not GPT layers"},
    {"qwen3_next", "gated delta net layers are not GPT layers"},
    {"qwen3_5", "gated delta net layers are not GPT layers"},
    {"kimilinear", "linear attention layers are not GPT layers"},
    {"kimi_linear", "linear attention layers are not GPT layers"},
    {"lfm2", "convolution layers are not GPT layers"},
    {"minimaxm1", "linear attention layers are not GPT layers"},
    {"vision", "it has a vision encoder, which is not a GPT"},
    {"vl", "it has a vision encoder, which is not a GPT"},
    {"llava", "it has a vision encoder, which is not a GPT"},
    {"pixtral", "it has a vision encoder, which is not a GPT"},
    {"mllama", "it has a vision encoder, which is not a GPT"},
    {"forconditionalgeneration", "it has encoders of images, sound or text, which are not a GPT"},
    {"whisper", "it has an encoder of sound, which is not a GPT"},
    {"t5", "it has an encoder, which is not a GPT"},
    {"bert", "it is an encoder, not a GPT"},
    {"moe", "experts are not supported yet"},
    {"mixtral", "experts are not supported yet"},
    {"gptoss", "experts are not supported yet"},
    {"gpt_oss", "experts are not supported yet"},
    {"dbrx", "experts are not supported yet"},
    {"llama4", "experts are not supported yet"},
    {"minimax", "experts are not supported yet"},
    {"arctic", "experts are not supported yet"},
    {"ernie4_5_moe", "experts are not supported yet"},
    {"deepseek", "latent attention and experts are not supported yet"},
    {"kimi", "latent attention and experts are not supported yet"},
    {"longcat", "latent attention and experts are not supported yet"},
    {"minicpm3", "latent attention is not supported yet"},
    {"gemma3n", "per-layer embeddings and shared key-value layers are not supported yet"},
    {"gemma4", "per-layer head dimensions and shared key-value layers are not supported yet"},
    {"apertus", "the activation xIELU is not supported yet"},
    {"hunyuan", "norms of queries and keys after the rotation are not supported yet"},
    {"bloom", "ALiBi positions are not supported"},
    {"mpt", "ALiBi positions are not supported"},
    {"sequenceclassification", "its output layer classifies sequences"},
    {"tokenclassification", "its output layer classifies tokens"},
    {"questionanswering", "its output layer marks answers"},
};

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

void refuse_unsupported_family(const std::vector<std::string>& architectures,
                               const std::string& model_type, const std::string& path) {
  std::vector<std::string> names = architectures;
  names.push_back(model_type);
  for (const std::string& name : names) {
    const std::string text = lower(name);
    for (const auto& [word, reason] : kReasons) {
      if (text.find(word) == std::string::npos) continue;
      fail("Expected a model that this program can express in {}, but got {}: {}", path, name,
           reason);
    }
  }
}

}  // namespace megatron
