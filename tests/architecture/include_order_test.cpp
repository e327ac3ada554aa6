// Fails on an include that goes against the order of the folders, and when docs/architecture.md
// does not show the folders as they are.
#include <algorithm>
#include <fstream>
#include <gmock/gmock.h>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/architecture/include_graph.h"

namespace megatron {
namespace {

const std::filesystem::path kSource = SOURCE_DIR;

std::string architecture_page() {
  std::ifstream in(kSource / "docs/architecture.md");
  return {std::istreambuf_iterator<char>(in), {}};
}

// Folders of megatron/ from the lowest to the highest, as the page lists them.
std::vector<std::string> documented_order() {
  return fenced_words(architecture_page(), "### Order of the folders");
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

// "ops/matmul" for "megatron/ops/matmul/linear.h".
std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder == "cli" ? "cli" : folder.substr(std::string_view("megatron/").size());
}

// The unit that CMake builds: "ops" for "ops/matmul", "models/gpt" for itself.
std::string unit_of(const std::string& folder, const std::vector<std::string>& units) {
  std::string result = folder;
  for (const std::string& unit : units) {
    if (folder == unit || folder.starts_with(unit + "/")) result = unit;
  }
  return result;
}

Graph unit_graph() {
  const std::vector<std::string> units = split(ROOM_FOLDERS, ',');
  Graph graph;
  for (const Include& include : project_includes(kSource, {"megatron", "cli"})) {
    const std::string from = unit_of(folder_of(include.file), units);
    const std::string to = unit_of(folder_of(include.header), units);
    if (from != to) graph[from].insert(to);
  }
  return graph;
}

TEST(IncludeOrder, EveryIncludeGoesToALowerFolder) {
  const std::vector<std::string> order = documented_order();
  const auto rank = [&](const std::string& folder) {
    return std::ranges::find(order, folder) - order.begin();
  };
  const std::vector<Include> includes = project_includes(kSource, {"megatron"});
  ASSERT_GT(includes.size(), 500u);
  for (const Include& include : includes) {
    const std::string from = folder_of(include.file), to = folder_of(include.header);
    ASSERT_THAT(order, testing::Contains(from))
        << include.file << " is in a folder without a place";
    ASSERT_THAT(order, testing::Contains(to)) << include.file << " includes " << include.header;
    EXPECT_LE(rank(to), rank(from))
        << include.file << " includes " << include.header << " from a higher folder";
  }
}

TEST(IncludeOrder, BuildFollowsTheDocumentedOrder) {
  const std::vector<std::string> units = split(ROOM_FOLDERS, ',');
  std::vector<std::string> documented;
  for (const std::string& folder : documented_order()) {
    const std::string unit = unit_of(folder, units);
    if (!std::ranges::count(documented, unit)) documented.push_back(unit);
  }
  EXPECT_EQ(documented, units);
}

TEST(IncludeOrder, TheDiagramShowsTheIncludes) {
  const Graph drawn = flowchart(architecture_page()), actual = transitive_reduction(unit_graph());
  EXPECT_THAT(edges_without(drawn, actual), testing::IsEmpty())
      << "arrows of the diagram that no include needs (or that follow from others)";
  EXPECT_THAT(edges_without(actual, drawn), testing::IsEmpty())
      << "includes that the diagram does not show";
}

TEST(IncludeGraph, ReductionKeepsOnlyDirectEdges) {
  const Graph graph = {{"a", {"b", "c", "d"}}, {"b", {"c"}}, {"c", {"d"}}};
  EXPECT_EQ(transitive_reduction(graph), (Graph{{"a", {"b"}}, {"b", {"c"}}, {"c", {"d"}}}));
}

TEST(IncludeGraph, FlowchartReadsNodesAndArrows) {
  const std::string page =
      "text\n```mermaid\nflowchart TD\n  x[\"<b>models/gpt</b><br/>a\"]\n  y[\"<b>ops</b>\"]\n"
      "  z[\"<b>base</b>\"]\n  x --> y & z\n```\nz --> x\n";
  EXPECT_EQ(flowchart(page), (Graph{{"models/gpt", {"base", "ops"}}}));
}

}  // namespace
}  // namespace megatron
