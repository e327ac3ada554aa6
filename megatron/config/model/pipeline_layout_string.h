// The grammar of --pipeline-model-parallel-layout (Megatron's pipeline_parallel_layer_layout.py):
//   E embedding, t decoder layer, m multi-token prediction layer, L loss, | the next stage,
//   x*n and (...)*n repeat a symbol or a group; commas are ignored.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

// The stages' symbols, repetitions written out: "Et*2|(t|)*2L" -> {"Ett", "t", "t", "L"}. A stage
// may be empty. Throws Error that names the place where the text does not follow the grammar.
std::vector<std::string> expand_pipeline_layout(std::string_view layout);

}  // namespace megatron
