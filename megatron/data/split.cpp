#include "megatron/data/split.h"

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <string>

#include "megatron/base/error.h"

namespace megatron {

SplitMatrix parse_split(std::string_view text) {
  const auto refuse = [&text] [[noreturn]] {
    fail("Expected a split of up to three weights such as 969,30,1, but got '{}'", text);
  };
  std::array<double, 3> weights{};
  size_t count = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find_first_of(",/", begin), text.size());
    std::string number(text.substr(begin, end - begin));
    while (!number.empty() && number.back() == ' ') number.pop_back();
    number.erase(0, std::min(number.find_first_not_of(' '), number.size()));
    if (count == weights.size() || number.empty() ||
        number.find_first_not_of("0123456789.") != std::string::npos) {
      refuse();
    }
    char* rest = nullptr;
    weights[count++] = std::strtod(number.c_str(), &rest);
    if (*rest != '\0') refuse();
    begin = end + 1;
  }
  // Summed from the left in double, so that the shares agree with Megatron's to the last bit.
  const double sum = weights[0] + weights[1] + weights[2];
  if (!(sum > 0) || !std::isfinite(sum)) refuse();
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
