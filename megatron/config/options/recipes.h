// Recipes: YAML files of options that ship with the program (the folder recipes/), by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megatron {

struct Recipe {
  std::string_view name;  // "llama3-8b"
  std::string_view text;  // of the file

  // The first line, without the comment sign.
  std::string_view title() const;
};

// Sorted by name.
const std::vector<Recipe>& recipes();

// Throws UsageError with the nearest name if there is none.
const Recipe& find_recipe(std::string_view name);

// A line per recipe, for --recipe list.
std::string recipe_list();

}  // namespace megatron
