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

std::vector<std::string_view> words_of(std::string_view name) {
  std::vector<std::string_view> words;
  for (size_t at = 0; at < name.size();) {
    const size_t end = std::min(name.find_first_of("-_", at), name.size());
    if (end > at) words.push_back(name.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

// The candidate with the fewest words that has all of at least two words of `name`, in their order.
std::string name_with_more_words(std::string_view name,
                                 const std::vector<std::string>& candidates) {
  const std::vector<std::string_view> wanted = words_of(name);
  std::string best;
  size_t fewest = std::numeric_limits<size_t>::max();
  for (const auto& candidate : candidates) {
    const std::vector<std::string_view> words = words_of(candidate);
    size_t found = 0;
    for (const std::string_view word : words) {
      if (found < wanted.size() && word == wanted[found]) ++found;
    }
    if (wanted.size() < 2 || found < wanted.size() || words.size() >= fewest) continue;
    fewest = words.size();
    best = candidate;
  }
  return best;
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
  if (!nearest.empty() && distance <= std::max<size_t>(2, length / 5) && 2 * distance <= length)
    return "; the nearest is " + nearest;
  const std::string longer = name_with_more_words(bare(name), candidates);
  return longer.empty() ? "" : "; the nearest is " + longer;
}

}  // namespace megatron
