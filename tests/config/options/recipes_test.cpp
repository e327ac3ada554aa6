// The recipes that ship with the program.
#include "megatron/config/options/recipes.h"

#include <fstream>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/usage_error.h"
#include "megatron/config/options/command_line.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Recipes, ListNamesAllWithATitle) {
  EXPECT_GE(recipes().size(), 10u);
  for (const Recipe& recipe : recipes()) {
    EXPECT_FALSE(recipe.title().empty()) << recipe.name;
    EXPECT_THAT(recipe_list(), HasSubstr(std::string(recipe.name) + " "));
  }
}

TEST(Recipes, UnknownNameGivesTheNearest) {
  EXPECT_THAT(
      [] {
        parse_options(Command::train, {"--recipe", "llama3-8B"});
      },
      ThrowsMessage<UsageError>(HasSubstr("llama3-8b")));
}

TEST(Recipes, ConfigAndFlagsOverrideARecipe) {
  const std::string file = testing::TempDir() + "/recipe_override.yaml";
  std::ofstream(file) << "seq-length: 256\nlr: 1.0e-3\n";
  const ParsedCommand parsed =
      parse_options(Command::train, {"--recipe", "gpt2-124m", "--config", file, "--lr", "2e-3"});
  EXPECT_EQ(parsed.options.model.transformer.hidden_size, 768);
  EXPECT_EQ(parsed.options.model.seq_length, 256);
  EXPECT_EQ(parsed.options.optimizer.lr, 2e-3);
  EXPECT_TRUE(parsed.is_given("hidden_size"));
}

TEST(Recipes, AFileCannotNameARecipe) {
  const std::string file = testing::TempDir() + "/recipe_inside.yaml";
  std::ofstream(file) << "recipe: gpt2-124m\n";
  EXPECT_THROW(parse_options(Command::train, {"--config", file}), UsageError);
}

}  // namespace
}  // namespace megatron
