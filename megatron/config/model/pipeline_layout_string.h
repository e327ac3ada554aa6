// The grammar of pipeline_model_parallel_layout (Megatron's pipeline_parallel_layer_layout.py):
//   E embedding, t decoder layer, m MTP layer, L loss, | next stage,
//   x*n and (...)*n repeat a symbol or a group; commas are ignored.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

// Expands repetitions: "Et*2|(t|)*2L" -> {"Ett", "t", "t", "L"}. A stage may be empty. Throws Error
// with the position of a syntax error.
std::vector<std::string> expand_pipeline_layout(std::string_view layout);

}  // namespace megatron
