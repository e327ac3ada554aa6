// Megatron's --split: the shares of the sequences for training, validation and test.
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

// The range [begin, end) of each split as fractions of the data; nullopt for a split of weight 0.
using SplitMatrix = std::array<std::optional<std::pair<double, double>>, 3>;

// "969,30,1" -> {0, 0.969}, {0.969, 0.999}, {0.999, 1}. Throws Error for text that
// parse_split_weights does not accept.
SplitMatrix parse_split(std::string_view text);

// The range [begin, end) of sequences: the fractions times their number, rounded half to even as in
// Python.
std::pair<int64_t, int64_t> split_bounds(const std::pair<double, double>& shares,
                                         int64_t num_sequences);

}  // namespace megatron
