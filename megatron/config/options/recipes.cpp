#include "megatron/config/options/recipes.h"

#include <algorithm>

#include <fmt/format.h>

#include "megatron/base/nearest_name.h"
#include "megatron/base/usage_error.h"

namespace megatron {

std::string_view Recipe::title() const {
  std::string_view line = text.substr(0, text.find('\n'));
  while (line.starts_with('#') || line.starts_with(' ')) line.remove_prefix(1);
  return line;
}

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> list = {
#include "recipes.inc"
  };
  return list;
}

const Recipe& find_recipe(std::string_view name) {
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) {
    if (recipe.name == name) return recipe;
    names.emplace_back(recipe.name);
  }
  throw UsageError(
      fmt::format("Expected a recipe, but got '{}'; the nearest is {}, --recipe list shows all",
                  name, nearest_name(name, names)));
}

std::string recipe_list() {
  size_t width = 0;
  for (const Recipe& recipe : recipes()) width = std::max(width, recipe.name.size());
  std::string text;
  for (const Recipe& recipe : recipes())
    text += fmt::format("{:<{}}  {}\n", recipe.name, width, recipe.title());
  return text;
}

}  // namespace megatron
