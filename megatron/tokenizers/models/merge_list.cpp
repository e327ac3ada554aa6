#include "megatron/tokenizers/models/merge_list.h"

namespace megatron {

std::vector<std::pair<std::string, std::string>> read_merges(const JsonNode& merges) {
  std::vector<std::pair<std::string, std::string>> result;
  if (!merges.value().is_array()) merges.refuse("a list of pairs of tokens");
  result.reserve(merges.value().size());
  for (const nlohmann::json& merge : merges.value()) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      result.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      merges.element(result.size()).refuse("a pair of tokens");
    }
    result.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return result;
}

}  // namespace megatron
