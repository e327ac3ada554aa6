#include "megatron/base/nearest_name.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace megatron {
namespace {

// Levenshtein distance with a single row of the table.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::string nearest;
  size_t least = std::numeric_limits<size_t>::max();
  for (const auto& candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string nearest_hint(std::string_view name, const std::vector<std::string>& candidates) {
  const auto bare = [](std::string_view text) {
    return text.substr(std::min(text.find_first_not_of('-'), text.size()));
  };
  const std::string nearest = nearest_name(name, candidates);
  const size_t length = bare(name).size();
  const size_t distance = edit_distance(bare(name), bare(nearest));
  // 2 covers swapped neighbours; long names may differ in a fifth of their letters.
  if (nearest.empty() || distance > std::max<size_t>(2, length / 5) || 2 * distance > length)
    return "";
  return "; the nearest is " + nearest;
}

}  // namespace megatron
