// Suggestions for misspelled names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

// The candidate with the smallest edit distance to `name`; empty if there are no candidates.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

// "; the nearest is X", for the end of an error message. Empty if X is too different: an edit
// distance of more than max(2, a fifth of `name`), or of more than half of `name`; then X is the
// shortest candidate with the same words and more in between, if there is one.
std::string nearest_hint(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace megatron
