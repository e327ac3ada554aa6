#include "megatron/data/split.h"

#include <cmath>

#include "megatron/base/error.h"
#include "megatron/config/model/split_weights.h"

namespace megatron {

SplitMatrix parse_split(std::string_view text) {
  const auto parsed = parse_split_weights(text);
  check(parsed.has_value(),
        "Expected a split of up to three weights such as 969,30,1, but got '{}'", text);
  const auto& weights = *parsed;
  const double sum = weights[0] + weights[1] + weights[2];
  SplitMatrix matrix;
  double begin = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double end = begin + weights[i] / sum;
    if (end > begin) matrix[i] = {begin, end};
    begin = end;
  }
  return matrix;
}

std::pair<int64_t, int64_t> split_bounds(const std::pair<double, double>& shares,
                                         int64_t num_sequences) {
  // nearbyint rounds half to even in the default mode, as Python's round() does.
  const auto bound = [num_sequences](double share) {
    return static_cast<int64_t>(std::nearbyint(share * static_cast<double>(num_sequences)));
  };
  return {bound(shares.first), bound(shares.second)};
}

}  // namespace megatron
