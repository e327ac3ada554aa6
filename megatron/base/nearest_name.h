// What somebody may have meant by a name that is not known.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

// The candidate with the smallest edit distance to `name`; empty where there are no candidates.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

// "; the nearest is X" for the end of an error; empty where X is another word: where more than two
// letters and a fifth of `name`, or half of a short one, would have to change.
std::string nearest_hint(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace megatron
