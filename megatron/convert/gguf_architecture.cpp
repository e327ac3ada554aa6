#include "megatron/convert/gguf_architecture.h"

#include <algorithm>
#include <utility>

#include <fmt/ranges.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;  // Hugging Face, GGUF

constexpr NamePair kOuterNames[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
};

constexpr NamePair kLayerNames[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"}, {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"},
};

constexpr NamePair kTwoNorms[] = {{"post_attention_layernorm", "ffn_norm"}};
constexpr NamePair kFourNorms[] = {
    {"post_attention_layernorm", "post_attention_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
};

constexpr std::string_view kHfLayer = "model.layers.";
constexpr std::string_view kGgufLayer = "blk.";

std::string_view left_of(const NamePair& pair, bool to_gguf) {
  return to_gguf ? pair.first : pair.second;
}

// "q_proj.weight" -> {"q_proj", ".weight"}
std::pair<std::string_view, std::string_view> split_kind(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return {name, ""};
  return {name.substr(0, dot), name.substr(dot)};
}

template <typename Names>
std::optional<std::string> translate(const Names& names, std::string_view name, bool to_gguf) {
  for (const NamePair& pair : names) {
    if (left_of(pair, to_gguf) == name) return std::string(left_of(pair, !to_gguf));
  }
  return std::nullopt;
}

std::optional<std::string> translate_name(const GgufArchitecture& architecture,
                                          std::string_view full, bool to_gguf) {
  const auto [name, kind] = split_kind(full);
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  const std::string_view from = to_gguf ? kHfLayer : kGgufLayer;
  const std::string_view to = to_gguf ? kGgufLayer : kHfLayer;
  if (!name.starts_with(from)) {
    auto outer = translate(kOuterNames, name, to_gguf);
    if (outer) outer->append(kind);
    return outer;
  }
  const std::string_view rest = name.substr(from.size());
  const size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  if (digits == 0 || digits == rest.size() || rest[digits] != '.') return std::nullopt;
  const std::string_view inner = rest.substr(digits + 1);
  auto translated = translate(kLayerNames, inner, to_gguf);
  if (!translated) {
    translated = architecture.has_post_norms ? translate(kFourNorms, inner, to_gguf)
                                             : translate(kTwoNorms, inner, to_gguf);
  }
  if (!translated) return std::nullopt;
  return fmt::format("{}{}.{}{}", to, rest.substr(0, digits), *translated, kind);
}

const std::vector<GgufArchitecture>& architectures() {
  static const std::vector<GgufArchitecture> list = {
      {.name = "llama",
       .model_types = {"llama", "mistral"},
       .model_class = "LlamaForCausalLM",
       .interleaves_query_key = true},
      {.name = "qwen2", .model_types = {"qwen2"}, .model_class = "Qwen2ForCausalLM"},
      {.name = "qwen3", .model_types = {"qwen3"}, .model_class = "Qwen3ForCausalLM"},
      {.name = "gemma",
       .model_types = {"gemma"},
       .model_class = "GemmaForCausalLM",
       .adds_one_to_norms = true,
       .tanh_gelu = true},
      {.name = "gemma2",
       .model_types = {"gemma2"},
       .model_class = "Gemma2ForCausalLM",
       .adds_one_to_norms = true,
       .has_post_norms = true,
       .has_window = true,
       .tanh_gelu = true},
      {.name = "gemma3",
       .model_types = {"gemma3_text"},
       .model_class = "Gemma3ForCausalLM",
       .adds_one_to_norms = true,
       .has_post_norms = true,
       .has_window = true,
       .tanh_gelu = true},
  };
  return list;
}

}  // namespace

bool adds_one(const GgufArchitecture& architecture, std::string_view hf_name) {
  return architecture.adds_one_to_norms && hf_name.find("norm.weight") != std::string_view::npos;
}

const GgufArchitecture& gguf_architecture(std::string_view name, const std::string& source) {
  std::vector<std::string> known;
  for (const GgufArchitecture& architecture : architectures()) {
    if (name == architecture.name) return architecture;
    known.emplace_back(architecture.name);
  }
  fail("Expected general.architecture of {} to be one of {}, but got '{}'", source,
       fmt::join(known, ", "), name);
}

const GgufArchitecture& gguf_architecture_of(std::string_view model_type) {
  std::vector<std::string> known;
  for (const GgufArchitecture& architecture : architectures()) {
    for (const char* type : architecture.model_types) {
      if (model_type == type) return architecture;
      known.emplace_back(type);
    }
  }
  fail("Expected a model of a family that GGUF files are written of ({}), but got '{}'",
       fmt::join(known, ", "), model_type);
}

std::optional<std::string> gguf_tensor_name(const GgufArchitecture& architecture,
                                            std::string_view hf_name) {
  return translate_name(architecture, hf_name, /*to_gguf=*/true);
}

std::optional<std::string> hf_tensor_name(const GgufArchitecture& architecture,
                                          std::string_view gguf_name) {
  return translate_name(architecture, gguf_name, /*to_gguf=*/false);
}

}  // namespace megatron
