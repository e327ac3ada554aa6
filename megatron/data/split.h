// Megatron's --split: which share of the sequences is for training, validation and test.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace megatron {

enum class Split { train, valid, test };
inline constexpr std::array<Split, 3> kSplits{Split::train, Split::valid, Split::test};
inline constexpr std::array<const char*, 3> kSplitNames{"train", "valid", "test"};
constexpr const char* split_name(Split split) {
  return kSplitNames[static_cast<size_t>(split)];
}

// Shares of each split as [begin, end) in 0..1; none where a split has no weight.
using SplitMatrix = std::array<std::optional<std::pair<double, double>>, 3>;

// "969,30,1" -> {0, 0.969}, {0.969, 0.999}, {0.999, 1}. Up to three weights, 0 where not given.
// Throws Error on anything that is not such a list with a positive sum.
SplitMatrix parse_split(std::string_view text);

// The range [begin, end) of sequences: shares times their number, rounded half to even as Python
// does.
std::pair<int64_t, int64_t> split_bounds(const std::pair<double, double>& shares,
                                         int64_t num_sequences);

}  // namespace megatron
