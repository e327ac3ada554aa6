// The assignment of layers to stages: Megatron's tables, and invalid layouts.
#include "megatron/config/model/pipeline_layout.h"

#include <functional>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/config/model/pipeline_layout_string.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Strings = std::vector<std::string>;

TEST(PipelineLayoutString, ExpandsRepetitions) {
  EXPECT_EQ(expand_pipeline_layout("Et|t*4|t|tL"), (Strings{"Et", "tttt", "t", "tL"}));
  EXPECT_EQ(expand_pipeline_layout("E|t*6|t|L"), (Strings{"E", "tttttt", "t", "L"}));
  EXPECT_EQ(expand_pipeline_layout("E|t|t*2|t||(t|)*2,t*2,L"),
            (Strings{"E", "t", "tt", "t", "", "t", "t", "ttL"}));
  EXPECT_EQ(expand_pipeline_layout("((t|)*2m)*2").size(), 5);
  const Strings deep = expand_pipeline_layout("Et*3|(tt|)*29,m|L");
  ASSERT_EQ(deep.size(), 32);
  EXPECT_EQ(deep[0], "Ettt");
  EXPECT_EQ(deep[29], "tt");
  EXPECT_EQ(deep[30], "m");
  EXPECT_EQ(deep[31], "L");
  const Strings wide = expand_pipeline_layout("Et*2|(tt|)*29,t|mL");
  ASSERT_EQ(wide.size(), 32);
  EXPECT_EQ(wide[30], "t");
  EXPECT_EQ(wide[31], "mL");
}

TEST(PipelineLayoutString, RefusesInvalidSyntax) {
  const auto refusal = [](const char* text) -> std::string {
    try {
      expand_pipeline_layout(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal("Et|xL"), AllOf(HasSubstr("'x' at character 4"), HasSubstr("E (embedding)")));
  EXPECT_THAT(refusal("E(t|"), HasSubstr("a ')' for each '('"));
  EXPECT_THAT(refusal("Et)L"), HasSubstr("a '(' before this ')'"));
  EXPECT_THAT(refusal("Et*|L"), HasSubstr("a number of 1 to 100000 after '*'"));
  EXPECT_THAT(refusal("Et*0|L"), HasSubstr("a number of 1 to 100000"));
  EXPECT_THAT(refusal("*3"), HasSubstr("'*' at character 1"));
  EXPECT_THAT(refusal("((((t*9999)*9999)*9999)*9999)"), HasSubstr("at most 100000 symbols"));
}

TransformerConfig layers_over(int64_t layers, int64_t stages) {
  TransformerConfig config;
  config.num_layers = layers;
  config.pipeline_model_parallel_size = stages;
  return config;
}

// The layers of each rank's chunks, numbered from 1: "1 2|5".
Strings layer_numbers(const TransformerConfig& config) {
  const PipelineLayout layout = PipelineLayout::of(config);
  Strings ranks;
  int64_t all = 0;
  for (int stage = 0; stage < layout.stages(); ++stage) {
    std::string text;
    for (int i = 0; i < layout.chunks(); ++i) {
      if (i > 0) text += '|';
      const PipelineChunk& chunk = layout.chunk(stage, i);
      for (int64_t layer = 0; layer < chunk.num_layers; ++layer) {
        if (layer > 0) text += ' ';
        text += std::to_string(chunk.first_layer + layer + 1);
      }
      all += chunk.num_layers;
    }
    ranks.push_back(text);
  }
  EXPECT_EQ(all, config.num_layers);
  return ranks;
}

TEST(PipelineLayout, SplitsLayersEvenly) {
  TransformerConfig config = layers_over(8, 4);
  EXPECT_THAT(layer_numbers(config), ElementsAre("1 2", "3 4", "5 6", "7 8"));
  config.pipeline.virtual_pipeline_model_parallel_size = 2;
  EXPECT_THAT(layer_numbers(config), ElementsAre("1|5", "2|6", "3|7", "4|8"));
  config = layers_over(8, 2);
  config.pipeline.num_layers_per_virtual_pipeline_stage = 2;
  EXPECT_THAT(layer_numbers(config), ElementsAre("1 2|5 6", "3 4|7 8"));
}

TEST(PipelineLayout, AcceptsOtherFirstAndLastStages) {
  TransformerConfig config = layers_over(8, 4);
  config.pipeline.num_layers_in_first_pipeline_stage = 1;
  config.pipeline.num_layers_in_last_pipeline_stage = 1;
  EXPECT_THAT(layer_numbers(config), ElementsAre("1", "2 3 4", "5 6 7", "8"));
  config.pipeline.num_layers_in_last_pipeline_stage.reset();
  config.pipeline.num_layers_in_first_pipeline_stage = 2;
  EXPECT_THAT(layer_numbers(config), ElementsAre("1 2", "3 4", "5 6", "7 8"));
  config = layers_over(12, 2);
  config.pipeline.num_layers_in_first_pipeline_stage = 4;
  config.pipeline.virtual_pipeline_model_parallel_size = 2;
  EXPECT_THAT(layer_numbers(config), ElementsAre("1 2|7 8", "3 4 5 6|9 10 11 12"));
}

TEST(PipelineLayout, CountsEmbeddingAndLossAsLayers) {
  TransformerConfig config = layers_over(6, 4);
  config.pipeline.account_for_embedding_in_pipeline_split = true;
  config.pipeline.account_for_loss_in_pipeline_split = true;
  EXPECT_THAT(layer_numbers(config), ElementsAre("1", "2 3", "4 5", "6"));
  config.pipeline.virtual_pipeline_model_parallel_size = 2;
  EXPECT_THAT(layer_numbers(config), ElementsAre("|4", "1|5", "2|6", "3|"));
  config = layers_over(7, 2);
  config.pipeline.account_for_loss_in_pipeline_split = true;
  EXPECT_THAT(layer_numbers(config), ElementsAre("1 2 3 4", "5 6 7"));
}

// Megatron's example of a layout with empty stages, four ranks with two chunks each.
TEST(PipelineLayout, FollowsALayoutString) {
  TransformerConfig config = layers_over(8, 4);
  config.pipeline.pipeline_model_parallel_layout = "E|t|t*2|t||(t|)*2,t*2,L";
  EXPECT_THAT(layer_numbers(config), ElementsAre("|", "1|5", "2 3|6", "4|7 8"));
  const PipelineLayout layout = PipelineLayout::of(config);
  EXPECT_TRUE(layout.chunk(0, 0).embedding);
  EXPECT_TRUE(layout.chunk(3, 1).loss);
  EXPECT_FALSE(layout.chunk(0, 1).loss);
  EXPECT_EQ(describe_stage(layout, 0, 0), "embedding; nothing");
  EXPECT_EQ(describe_stage(layout, 3, 0), "layer 4; layers 7-8, output layer");
}

TEST(PipelineLayout, PlacesMtpLayers) {
  TransformerConfig config = layers_over(61, 8);
  config.mtp.mtp_num_layers = 1;
  config.pipeline.pipeline_model_parallel_layout = "Et*3|(tt|)*29,m|L";
  const PipelineLayout apart = PipelineLayout::of(config);
  EXPECT_EQ(apart.chunks(), 4);
  EXPECT_EQ(apart.mtp_stage(), 6);
  EXPECT_TRUE(apart.mtp_standalone());
  EXPECT_EQ(apart.most_layers(), 3);
  config.pipeline_model_parallel_size = 16;
  config.pipeline.pipeline_model_parallel_layout = "Et*2|(tt|)*29,t|mL";
  EXPECT_FALSE(PipelineLayout::of(config).mtp_standalone());
  EXPECT_EQ(PipelineLayout::of(config).chunks(), 2);
}

struct Refusal {
  const char* name;
  int64_t layers, stages;
  std::function<void(TransformerConfig&)> apply;
  Strings texts;
  friend void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }
};

PipelineConfig& pipeline_of(TransformerConfig& config) {
  return config.pipeline;
}

const Refusal kRefusals[] = {
    {"even",
     4,
     3,
     [](TransformerConfig&) {},
     {"divisible by", "(3), but got 4", "size of 2 or 4, or num_layers 3 or 6, or"}},
    {"embedding_and_loss_counted",
     4,
     4,
     [](TransformerConfig& c) {
       pipeline_of(c).account_for_embedding_in_pipeline_split = true;
       pipeline_of(c).account_for_loss_in_pipeline_split = true;
     },
     {"and 2 for embedding and loss", "(4), but got 6", "3 or 6, or num_layers 2 or 6, or"}},
    {"counted_of_few_layers",
     1,
     2,
     [](TransformerConfig& c) {
       pipeline_of(c).account_for_embedding_in_pipeline_split = true;
       pipeline_of(c).account_for_loss_in_pipeline_split = true;
     },
     {"(2), but got 3", "or num_layers 2, or"}},
    {"counted_in_virtual_stages",
     4,
     4,
     [](TransformerConfig& c) {
       pipeline_of(c).account_for_embedding_in_pipeline_split = true;
       pipeline_of(c).account_for_loss_in_pipeline_split = true;
       pipeline_of(c).virtual_pipeline_model_parallel_size = 2;
     },
     {"(4), but got 6; num_layers 6, or"}},
    {"first",
     8,
     4,
     [](TransformerConfig& c) { pipeline_of(c).num_layers_in_first_pipeline_stage = 1; },
     {"minus 1 in the first", "7 left", "2 layers in the first stage would work"}},
    {"both",
     9,
     4,
     [](TransformerConfig& c) {
       pipeline_of(c).num_layers_in_first_pipeline_stage = 2;
       pipeline_of(c).num_layers_in_last_pipeline_stage = 2;
     },
     {"5 left", "3 layers in the last stage would work"}},
    {"too_many",
     4,
     2,
     [](TransformerConfig& c) { pipeline_of(c).num_layers_in_first_pipeline_stage = 9; },
     {"-5 left", "would work"}},
    {"counted",
     6,
     4,
     [](TransformerConfig& c) { pipeline_of(c).account_for_loss_in_pipeline_split = true; },
     {"and 1 for embedding and loss", "but got 7"}},
    {"counted_and_uneven",
     6,
     4,
     [](TransformerConfig& c) {
       pipeline_of(c).account_for_loss_in_pipeline_split = true;
       pipeline_of(c).num_layers_in_first_pipeline_stage = 2;
     },
     {"but got both"}},
    {"virtual",
     8,
     4,
     [](TransformerConfig& c) { pipeline_of(c).virtual_pipeline_model_parallel_size = 3; },
     {"2 layers of a rank to divide into 3 virtual",
      "virtual_pipeline_model_parallel_size 2 would work"}},
    {"virtual_alone",
     8,
     1,
     [](TransformerConfig& c) { pipeline_of(c).virtual_pipeline_model_parallel_size = 2; },
     {"pipeline_model_parallel_size above 1", "2 works"}},
    {"layers_per_virtual_stage",
     12,
     2,
     [](TransformerConfig& c) { pipeline_of(c).num_layers_per_virtual_pipeline_stage = 4; },
     {"divide the 6 layers", "but got 4", "3 or 6 would work"}},
    {"virtual_twice",
     8,
     2,
     [](TransformerConfig& c) {
       pipeline_of(c).num_layers_per_virtual_pipeline_stage = 2;
       pipeline_of(c).virtual_pipeline_model_parallel_size = 2;
     },
     {"but got both"}},
    {"too_few_layers",
     3,
     2,
     [](TransformerConfig& c) { pipeline_of(c).pipeline_model_parallel_layout = "Ett|L"; },
     {"number of 't'", "to be 3", "but got 2", "adding 1 't' works"}},
    {"no_loss",
     2,
     2,
     [](TransformerConfig& c) { pipeline_of(c).pipeline_model_parallel_layout = "Et|t"; },
     {"number of 'L'", "adding 1 'L'"}},
    {"no_mtp",
     2,
     2,
     [](TransformerConfig& c) {
       c.mtp.mtp_num_layers = 1;
       pipeline_of(c).pipeline_model_parallel_layout = "Et|tL";
     },
     {"number of 'm'", "adding 1 'm'"}},
    {"unwanted_mtp",
     2,
     2,
     [](TransformerConfig& c) { pipeline_of(c).pipeline_model_parallel_layout = "Et|tmL"; },
     {"number of 'm'", "leaving out 1 'm'"}},
    {"order",
     2,
     2,
     [](TransformerConfig& c) { pipeline_of(c).pipeline_model_parallel_layout = "tE|tL"; },
     {"E, then every t"}},
    {"late_embedding",
     2,
     2,
     [](TransformerConfig& c) { pipeline_of(c).pipeline_model_parallel_layout = "|EttL"; },
     {"E in the first and L in the last stage"}},
    {"stages",
     2,
     2,
     [](TransformerConfig& c) { pipeline_of(c).pipeline_model_parallel_layout = "Et|t|L"; },
     {"divisible by pipeline_model_parallel_size (2), but got 3", "2 or 4 stages"}},
    {"other_virtual",
     4,
     2,
     [](TransformerConfig& c) {
       pipeline_of(c).pipeline_model_parallel_layout = "Et|t|t|tL";
       pipeline_of(c).virtual_pipeline_model_parallel_size = 4;
     },
     {"virtual_pipeline_model_parallel_size 2", "but got 4"}},
    {"mtp_in_two_stages",
     2,
     4,
     [](TransformerConfig& c) {
       c.mtp.mtp_num_layers = 2;
       pipeline_of(c).pipeline_model_parallel_layout = "Ett|m|m|L";
     },
     {"all m", "in one stage, but got 2"}},
};

class InvalidPipelineLayout : public testing::TestWithParam<Refusal> {};

TEST_P(InvalidPipelineLayout, ErrorNamesValidValues) {
  TransformerConfig config = layers_over(GetParam().layers, GetParam().stages);
  GetParam().apply(config);
  std::string text = "accepted";
  try {
    PipelineLayout::of(config);
  } catch (const Error& error) {
    text = error.what();
  }
  for (const std::string& part : GetParam().texts) EXPECT_THAT(text, HasSubstr(part));
}

INSTANTIATE_TEST_SUITE_P(Layouts, InvalidPipelineLayout, testing::ValuesIn(kRefusals),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(PipelineLayout, AcceptsTheLayersThatAnErrorSuggests) {
  for (const int64_t layers : {2, 6}) {
    TransformerConfig config = layers_over(layers, 4);
    config.pipeline.account_for_embedding_in_pipeline_split = true;
    config.pipeline.account_for_loss_in_pipeline_split = true;
    EXPECT_EQ(PipelineLayout::of(config).stages(), 4);
    config.pipeline.virtual_pipeline_model_parallel_size = 2;
    if (layers == 6) {
      EXPECT_EQ(PipelineLayout::of(config).chunks(), 2);
    }
  }
}

}  // namespace
}  // namespace megatron
