// Layouts by name: the options they set, their number of ranks, and what is refused.
#include "megatron/verify/layout_name.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string error_of(std::string_view name) {
  try {
    layout_from_name(name);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

Options with_layout(std::string_view name) {
  Options options;
  options.model.transformer.num_layers = 8;
  apply_layout(layout_from_name(name), options);
  return options;
}

TEST(LayoutName, SetsTheOptionsOfItsWords) {
  const Options options = with_layout("tp2+sp+pp4+vp2+cp2:a2a+zero1+overlap");
  const TransformerConfig& t = options.model.transformer;
  EXPECT_EQ(t.tensor_model_parallel_size, 2);
  EXPECT_TRUE(t.sequence_parallel);
  EXPECT_EQ(t.pipeline_model_parallel_size, 4);
  EXPECT_EQ(t.pipeline.virtual_pipeline_model_parallel_size, 2);
  EXPECT_EQ(t.context_parallel_size, 2);
  EXPECT_EQ(t.cp_comm_type, CpCommType::a2a);
  EXPECT_TRUE(options.ddp.use_distributed_optimizer);
  EXPECT_TRUE(options.ddp.overlap_grad_reduce);
  EXPECT_TRUE(options.ddp.overlap_param_gather);
}

TEST(LayoutName, AcceptsALayoutString) {
  const Options options = with_layout("pp2+layout:Et*3|t|t*2|ttL");
  EXPECT_EQ(options.model.transformer.pipeline.pipeline_model_parallel_layout, "Et*3|t|t*2|ttL");
}

TEST(LayoutName, CountsItsRanks) {
  EXPECT_EQ(layout_from_name("tp2+pp3").world_size, 6);
  EXPECT_EQ(layout_from_name("dp4").world_size, 4);
  EXPECT_EQ(layout_from_name("tp2+dp4").world_size, 8);
  // Words for data-parallel ranks imply two of them.
  for (const char* word : {"zero1", "zero3", "fsdp2", "overlap"})
    EXPECT_EQ(layout_from_name(word).world_size, 2) << word;
  EXPECT_EQ(layout_from_name("zero1+dp1").world_size, 1);
  EXPECT_EQ(layout_from_name("tp2+full").world_size, 2);
}

TEST(LayoutName, ReplacesTheLayoutOfTheOptions) {
  Options options = with_layout("tp4+sp+pp2+vp2+fsdp3+overlap");
  apply_layout(layout_from_name("cp2"), options);
  Options expected;
  expected.model.transformer.num_layers = 8;
  apply_layout(layout_from_name("cp2"), expected);
  EXPECT_EQ(layout_name_of(options, 2), layout_name_of(expected, 2));
  EXPECT_FALSE(options.ddp.use_megatron_fsdp);
  EXPECT_FALSE(options.ddp.overlap_grad_reduce);
}

TEST(LayoutName, RecomputationKeepsTheRestOfTheModel) {
  Options options;
  options.model.transformer.num_layers = 8;
  options.model.transformer.recompute.recompute_granularity = RecomputeGranularity::selective;
  options.model.transformer.recompute.recompute_modules = {"mlp"};
  apply_layout(layout_from_name("tp2"), options);
  EXPECT_EQ(options.model.transformer.recompute.recompute_modules, std::vector<std::string>{"mlp"});
  apply_layout(layout_from_name("tp2+full"), options);
  EXPECT_EQ(options.model.transformer.recompute.recompute_granularity, RecomputeGranularity::full);
  EXPECT_TRUE(options.model.transformer.recompute.recompute_modules.empty());
}

TEST(LayoutName, OfOptionsSetsThemAgain) {
  for (const char* name :
       {"tp2+sp+tp-overlap+pp2+vp2+group4+cp2:allgather+zero1+overlap+step-overlap+dp2",
        "pp3+first1+last2+varlen+no-p2p-overlap+keep-outputs+defer+dp1",
        "pp2+account+fsdp3+overlap+dp2", "pp2+layout:Et*3|t|t*2|ttL+fsdp1+dp3", "cp4+dp1"}) {
    SCOPED_TRACE(name);
    const NamedLayout layout = layout_from_name(name);
    EXPECT_EQ(layout_name_of(with_layout(name), layout.world_size), name);
  }
}

TEST(LayoutName, ListsThatSeveralNamesGive) {
  const auto layouts = layouts_from_names({"tp2+sp, pp2", "zero1"});
  ASSERT_EQ(layouts.size(), 3u);
  EXPECT_EQ(layouts[1].name, "pp2");
  EXPECT_EQ(layouts[2].world_size, 2);
}

TEST(LayoutName, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(error_of("tp2+seqp"), AllOf(HasSubstr("got 'seqp'"), HasSubstr("the nearest is sp"),
                                          HasSubstr("tpN, sp,"), HasSubstr("fsdp3")));
  EXPECT_THAT(error_of("tq2"), HasSubstr("the nearest is tpN"));
  EXPECT_THAT(error_of("zero4"), HasSubstr("the nearest is zero1"));
  EXPECT_THAT(error_of(""), HasSubstr("got ''"));
  EXPECT_THAT(error_of("tp2++sp"), HasSubstr("got ''"));
  EXPECT_THAT(error_of("tp2 sp"), HasSubstr("got 'tp2 sp'"));
}

TEST(LayoutName, RefusesMissingAndImpossibleNumbers) {
  EXPECT_THAT(error_of("tp"), HasSubstr("tp2 works"));
  EXPECT_THAT(error_of("pp0"), HasSubstr("from 1 to"));
  EXPECT_THAT(error_of("dp99999999999999999999"), HasSubstr("from 1 to"));
  EXPECT_THAT(error_of("tp4096+pp4096"), HasSubstr("at most 4096 ranks"));
  EXPECT_THAT(error_of("cp2:ring"), HasSubstr("p2p, a2a, allgather"));
  EXPECT_THAT(error_of("tp2:a2a"), HasSubstr("cp2:a2a works"));
}

TEST(LayoutName, RefusesTwoWordsForOneThing) {
  EXPECT_THAT(error_of("tp2+tp4"), HasSubstr("leave one out"));
  EXPECT_THAT(error_of("zero1+fsdp3"), HasSubstr("leave one out"));
  EXPECT_THAT(error_of("full+selective"), HasSubstr("leave one out"));
}

}  // namespace
}  // namespace megatron
