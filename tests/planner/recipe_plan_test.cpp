// Every recipe is a model that can be planned, of the size that its name says.
#include <cmath>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/config/options/command_line.h"
#include "megatron/config/options/recipes.h"
#include "megatron/config/validate/validate.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/planner/layout_plan.h"

namespace megatron {
namespace {

// Billions, from "llama3.2-1b" or "gpt2-124m".
double billions_in_name(std::string_view name) {
  const std::string size(name.substr(name.rfind('-') + 1));
  return std::stod(size) / (size.back() == 'm' ? 1000 : 1);
}

TEST(RecipePlan, EveryRecipeCanBePlanned) {
  for (const Recipe& recipe : recipes()) {
    SCOPED_TRACE(std::string(recipe.name));
    Options options = parse_options(Command::plan, {"--recipe", std::string(recipe.name)}).options;
    ASSERT_NO_THROW(validate(options, 1, Command::plan));
    EXPECT_FALSE(format_layout_plan(plan_layout(options, 1), options).empty());
    // Names round: Llama 3.2 "1B" has 1.24 billion parameters.
    const double billions = double(count_parameters(options.model)) / 1e9;
    EXPECT_NEAR(billions / billions_in_name(recipe.name), 1.0, 0.3) << billions;
  }
}

TEST(RecipePlan, PlansOverTensorAndPipelineParallelRanks) {
  Options options =
      parse_options(Command::plan, {"--recipe", "llama3-70b", "--tensor-model-parallel-size", "8",
                                    "--pipeline-model-parallel-size", "4", "--sequence-parallel"})
          .options;
  ASSERT_NO_THROW(validate(options, 32, Command::plan));
  EXPECT_FALSE(format_layout_plan(plan_layout(options, 32), options).empty());
}

}  // namespace
}  // namespace megatron
