// Layouts of one model against one rank: correct ones agree, and a fault on one rank is found.
#include "megatron/verify/layout_verification.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/config/options/command_line.h"
#include "megatron/verify/option_flags.h"
#include "megatron/verify/verification_model.h"
#include "megatron/verify/verification_report.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kBound = 1e-8;

Options model_of(const std::string& flags = "") {
  ParsedCommand command = parse_options(Command::verify_layout, split_flags(flags));
  complete_verification_model(command.options, command.given);
  return command.options;
}

TEST(LayoutVerification, DefaultLayoutsOfTheDefaultModelAgreeWithOneRank) {
  LayoutVerification verification(model_of());
  const auto layouts = default_layouts(verification.model());
  ASSERT_EQ(layouts.size(), 9u);
  for (const NamedLayout& layout : layouts) {
    const LayoutResult result = verification.verify(layout);
    EXPECT_TRUE(result.holds(kBound)) << VerificationReport(kBound, 30).row(result);
  }
}

TEST(LayoutVerification, DefaultLayoutsFitSmallModels) {
  const auto names_of = [](const std::string& flags) {
    std::vector<std::string> names;
    for (const NamedLayout& layout : default_layouts(model_of(flags))) names.push_back(layout.name);
    return names;
  };
  // Nothing of it divides but the batch.
  EXPECT_EQ(names_of("--num-layers 1 --num-attention-heads 1 --seq-length 31"),
            (std::vector<std::string>{"zero1+overlap", "fsdp3+overlap", "torch-fsdp2+overlap"}));
  EXPECT_THAT(names_of("--num-layers 2"), testing::Contains("pp2"));
}

// Scales a gradient on one rank, before norms and update.
auto scaled_gradient(const std::string& parameter, int faulty_rank, int64_t faulty_step,
                     double factor) {
  return [=](const RankContext& rank, int64_t step, TrainStep& train_step) {
    if (rank.rank != faulty_rank || step != faulty_step) return;
    for (const OptimizerState& state : train_step.optimizer().states())
      if (state.slice.parameter->name == parameter) state.slice.main_grad.mul_(factor);
  };
}

struct Fault {
  const char* layout;
  const char* parameter;
  int rank;
  friend void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.layout; }
};

class PlantedFault : public testing::TestWithParam<Fault> {};

TEST_P(PlantedFault, IsFoundAndNamed) {
  const auto [layout, parameter, rank] = GetParam();
  LayoutVerification verification(model_of());
  verification.after_backward = scaled_gradient(parameter, rank, /*faulty_step=*/1, 1 + 1e-6);
  const LayoutResult result = verification.verify(layout_from_name(layout));
  EXPECT_FALSE(result.holds(kBound));
  const auto& gradient = result.differences[TracedQuantity::gradient];
  EXPECT_NEAR(gradient.value, 1e-6, 0.9e-6);
  EXPECT_THAT(gradient.where, AllOf(HasSubstr(parameter), HasSubstr("step 2")));
  // The first step has the numbers of one rank, and so has the loss of the second.
  EXPECT_LE(result.differences[TracedQuantity::loss].value, kBound);
  const VerificationReport report(kBound, 20);
  EXPECT_THAT(report.failure({result}), AllOf(HasSubstr(layout), HasSubstr(parameter)));
  EXPECT_THAT(report.row(result),
              AllOf(HasSubstr("  FAIL\n"), HasSubstr("\n    gradient differs by ")));
  EXPECT_THAT(report.verdict({result}, 1.0), HasSubstr("FAIL: 1 of 1 layouts"));
  EXPECT_FALSE(report.to_json(result)["holds"].get<bool>());
  // Without the fault the layout is right.
  verification.after_backward = nullptr;
  EXPECT_TRUE(verification.verify(layout_from_name(layout)).holds(kBound));
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, PlantedFault,
    testing::Values(Fault{"tp2+sp", "decoder.layers.1.mlp.linear_fc1.weight", 1},
                    Fault{"pp2+vp2", "decoder.layers.3.self_attention.linear_proj.weight", 1},
                    Fault{"cp2", "decoder.final_layernorm.weight", 0},
                    Fault{"dp2", "embedding.word_embeddings.weight", 1}),
    [](const auto& info) { return "layout" + std::to_string(info.index); });

// Where ranks own slices, the fault is in the slice of one rank.
TEST(LayoutVerification, FindsAFaultInASliceOfASharedGradient) {
  LayoutVerification verification(model_of());
  for (const char* layout : {"zero1", "fsdp2", "fsdp3", "torch-fsdp2"}) {
    verification.after_backward = [](const RankContext& rank, int64_t, TrainStep& train_step) {
      if (rank.rank == 1) train_step.optimizer().states().front().slice.main_grad.mul_(1.5);
    };
    const LayoutResult result = verification.verify(layout_from_name(layout));
    EXPECT_FALSE(result.holds(kBound)) << layout;
    EXPECT_GT(result.differences[TracedQuantity::grad_norm].value, 1e-4) << layout;
  }
}

// The update is compared too: no gradient shows this.
TEST(LayoutVerification, FindsAWeightThatOneRankChanges) {
  LayoutVerification verification(model_of());
  verification.after_backward = [](const RankContext& rank, int64_t step, TrainStep& train_step) {
    if (rank.rank != 1 || step != 1) return;
    const at::NoGradGuard no_grad;
    train_step.parameters().back()->data.add_(1e-6);
  };
  const LayoutResult result = verification.verify(layout_from_name("dp2"));
  EXPECT_LE(result.differences[TracedQuantity::gradient].value, kBound);
  EXPECT_GT(result.differences[TracedQuantity::weight].value, 1e-4);
}

TEST(LayoutVerification, ANumberThatIsNotOneIsADifference) {
  LayoutVerification verification(model_of());
  verification.after_backward =
      scaled_gradient("decoder.final_layernorm.weight", 0, /*faulty_step=*/0, NAN);
  const LayoutResult result = verification.verify(layout_from_name("dp2"));
  EXPECT_EQ(result.differences[TracedQuantity::gradient].value, INFINITY);
  EXPECT_FALSE(result.holds(1e100));
}

TEST(LayoutVerification, ARankThatThrowsIsReported) {
  LayoutVerification verification(model_of());
  verification.after_backward = [](const RankContext& rank, int64_t, TrainStep&) {
    check(rank.rank != 1, "Expected rank {} to work, but it does not", rank.rank);
  };
  const LayoutResult result = verification.verify(layout_from_name("tp2"));
  EXPECT_FALSE(result.holds(1));
  EXPECT_THAT(result.error, HasSubstr("Expected rank 1 to work"));
  EXPECT_THAT(VerificationReport(kBound, 10).failure({result}),
              HasSubstr("Expected layout tp2 to train, but a rank failed"));
}

TEST(LayoutVerification, SaysWhyALayoutDoesNotFit) {
  EXPECT_THAT(misfit(layout_from_name("tp3"), model_of()),
              HasSubstr("--num-attention-heads divisible by --tensor-model-parallel-size (3)"));
  EXPECT_THAT(misfit(layout_from_name("pp2+vp3"), model_of()),
              HasSubstr("2 layers of a rank to divide into 3 virtual stages"));
  EXPECT_EQ(misfit(layout_from_name("tp2+dp3"), model_of()), "");
}

// Micro-batches are as many as the data-parallel ranks need.
TEST(LayoutVerification, AnyDataParallelSizeWorks) {
  LayoutVerification verification(model_of("--num-layers 2 --hidden-size 16"));
  for (const char* layout : {"dp3", "dp5", "tp2+dp3"}) {
    const LayoutResult result = verification.verify(layout_from_name(layout));
    EXPECT_TRUE(result.holds(kBound)) << VerificationReport(kBound, 10).row(result);
  }
}

TEST(LayoutVerification, ModelsOfEveryKindAgree) {
  for (const char* flags :
       {"--mtp-num-layers 2 --calculate-per-token-loss",
        "--position-embedding-type mrope "
        "--mrope-section 4,2,2",
        "--untie-embeddings-and-output-weights --normalization RMSNorm --disable-bias-linear",
        "--multi-latent-attention --position-embedding-type rope --q-lora-rank 12",
        "--use-mup --mup-base-hidden-size 16 --optimizer sgd --lr 0.01"}) {
    SCOPED_TRACE(flags);
    LayoutVerification verification(model_of(flags));
    for (const char* layout : {"tp2+sp+pp2+cp2", "pp2+zero1+overlap", "cp2+fsdp3"}) {
      const LayoutResult result = verification.verify(layout_from_name(layout));
      EXPECT_TRUE(result.holds(kBound)) << VerificationReport(kBound, 20).row(result);
    }
  }
}

}  // namespace
}  // namespace megatron
