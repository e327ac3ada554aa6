#include "tests/architecture/include_graph.h"

#include <fstream>
#include <functional>
#include <regex>
#include <sstream>

namespace megatron {

std::vector<Include> project_includes(const std::filesystem::path& source_dir,
                                      const std::vector<std::string>& folders) {
  static const std::regex pattern(R"re(^#include "((?:megatron|cli)/[^"]+)")re");
  std::vector<Include> includes;
  for (const std::string& folder : folders) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(source_dir / folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu") continue;
      std::ifstream in(entry.path());
      std::smatch match;
      for (std::string line; std::getline(in, line);) {
        if (!std::regex_search(line, match, pattern)) continue;
        includes.push_back(
            {std::filesystem::relative(entry.path(), source_dir).string(), match[1]});
      }
    }
  }
  return includes;
}

Graph transitive_reduction(const Graph& graph) {
  std::map<std::string, std::set<std::string>> reachable;
  const std::function<const std::set<std::string>&(const std::string&)> visit =
      [&](const std::string& node) -> const std::set<std::string>& {
    if (const auto known = reachable.find(node); known != reachable.end()) return known->second;
    std::set<std::string> result;
    if (const auto edges = graph.find(node); edges != graph.end()) {
      for (const std::string& next : edges->second) {
        const std::set<std::string>& behind = visit(next);
        result.insert(behind.begin(), behind.end());
        result.insert(next);
      }
    }
    return reachable[node] = std::move(result);
  };
  Graph reduced;
  for (const auto& [node, edges] : graph) {
    for (const std::string& next : edges) {
      bool detour = false;
      for (const std::string& other : edges) detour |= other != next && visit(other).contains(next);
      if (!detour) reduced[node].insert(next);
    }
  }
  return reduced;
}

std::vector<std::string> edges_without(const Graph& left, const Graph& right) {
  std::vector<std::string> edges;
  for (const auto& [from, targets] : left) {
    const auto others = right.find(from);
    for (const std::string& to : targets) {
      if (others == right.end() || !others->second.contains(to))
        edges.push_back(from + " -> " + to);
    }
  }
  return edges;
}

Graph flowchart(const std::string& page) {
  static const std::regex node(R"re(^\s*(\w+)\["<b>([^<]+)</b>)re");
  static const std::regex arrow(R"re(^\s*(\w+) --> (.+)$)re");
  static const std::regex target(R"re(\w+)re");
  std::map<std::string, std::string> folder_of;
  Graph graph;
  bool inside = false;
  std::istringstream lines(page);
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (line == "```mermaid") inside = true;
    if (!inside) continue;
    if (line == "```") break;
    if (std::regex_search(line, match, node)) folder_of[match[1]] = match[2];
    if (!std::regex_search(line, match, arrow)) continue;
    const std::string from = folder_of.at(match[1]), targets = match[2];
    for (std::sregex_iterator it(targets.begin(), targets.end(), target), end; it != end; ++it)
      graph[from].insert(folder_of.at(it->str()));
  }
  return graph;
}

std::vector<std::string> fenced_words(const std::string& page, const std::string& heading) {
  std::vector<std::string> words;
  std::istringstream lines(page);
  bool found = false, inside = false;
  for (std::string line; std::getline(lines, line);) {
    found |= line == heading;
    if (!found) continue;
    if (line.starts_with("```")) {
      if (inside) break;
      inside = true;
      continue;
    }
    std::istringstream text(line);
    for (std::string word; inside && text >> word;) words.push_back(word);
  }
  return words;
}

}  // namespace megatron
