// Architectures of Hugging Face that are known and cannot be converted, with the reason.
#pragma once

#include <string>
#include <vector>

namespace megatron {

// Throws Error with the reason if one of the architectures or the model_type is known not to work.
void refuse_unsupported_family(const std::vector<std::string>& architectures,
                               const std::string& model_type, const std::string& path);

}  // namespace megatron
