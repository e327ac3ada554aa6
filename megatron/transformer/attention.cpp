#include "megatron/transformer/attention.h"

#include "megatron/base/error.h"

namespace megatron {

bool has_arbitrary_masks(const ModuleSpec& spec) {
  const auto found = spec.params.find("attn_mask_type");
  if (found == spec.params.end()) return false;
  const auto* type = std::get_if<std::string>(&found->second);
  check(type != nullptr && (*type == "causal" || *type == "arbitrary"),
        "Expected attn_mask_type causal or arbitrary for {}, but got {}", spec.module,
        type != nullptr ? "'" + *type + "'" : "a value that is not a string");
  return *type == "arbitrary";
}

}  // namespace megatron
