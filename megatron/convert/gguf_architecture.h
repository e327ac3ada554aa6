// The architectures of GGUF files that are Hugging Face families here: what differs between the two
// formats.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

struct GgufArchitecture {
  const char* name;                      // general.architecture
  std::vector<const char*> model_types;  // of config.json; the first is that of an import
  const char* model_class;               // of an import
  bool interleaves_query_key = false;    // rows of q and k: see GgufTensors
  bool adds_one_to_norms = false;        // stores 1 + w where Hugging Face stores w
  bool has_post_norms = false;           // norms of the branches' outputs too
  bool has_window = false;
  bool tanh_gelu = false;  // in place of SiLU
};

// Whether the file holds the tensor of this Hugging Face name with 1 added.
bool adds_one(const GgufArchitecture& architecture, std::string_view hf_name);

// Throws Error for an architecture that is not known, with those that are.
const GgufArchitecture& gguf_architecture(std::string_view name, const std::string& source);
// That of a family. Throws Error for a family without one.
const GgufArchitecture& gguf_architecture_of(std::string_view model_type);

// blk.0.attn_q.weight for model.layers.0.self_attn.q_proj.weight, and back; none for other names.
std::optional<std::string> gguf_tensor_name(const GgufArchitecture& architecture,
                                            std::string_view hf_name);
std::optional<std::string> hf_tensor_name(const GgufArchitecture& architecture,
                                          std::string_view gguf_name);

}  // namespace megatron
