// The includes between the folders of the source tree, and what docs/architecture.md says of them.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace megatron {

// One #include of a project header. Paths are relative to the source tree.
struct Include {
  std::string file, header;
};

// Every #include "megatron/..." or "cli/..." in the sources below `folders`.
std::vector<Include> project_includes(const std::filesystem::path& source_dir,
                                      const std::vector<std::string>& folders);

// Edges between names: graph[from] holds each `to`.
using Graph = std::map<std::string, std::set<std::string>>;

// The smallest graph with the same reachability. `graph` must have no cycle.
Graph transitive_reduction(const Graph& graph);

// "a -> b" for every edge of `left` that `right` lacks.
std::vector<std::string> edges_without(const Graph& left, const Graph& right);

// The arrows of the first Mermaid flowchart in `page`, between the folders that its nodes name in
// bold: `id["<b>folder</b>..."]` and `a --> b & c`.
Graph flowchart(const std::string& page);

// The words of the fenced block that follows the line `heading` in `page`.
std::vector<std::string> fenced_words(const std::string& page, const std::string& heading);

}  // namespace megatron
