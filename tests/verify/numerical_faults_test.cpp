// Silent numerical faults that other systems have in combined parallelism (docs/numerics.md): each
// test runs the model and the layouts in which such a fault shows.
#include <gtest/gtest.h>

#include "megatron/config/options/command_line.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/verify/layout_verification.h"
#include "megatron/verify/option_flags.h"
#include "megatron/verify/verification_model.h"
#include "megatron/verify/verification_report.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

void expect_numbers_of_one_rank(const std::string& model, const std::vector<const char*>& layouts) {
  SCOPED_TRACE(model);
  constexpr double kBoundOfFaults = VerifyLayoutConfig{}.bound;
  ParsedCommand command = parse_options(Command::verify_layout, split_flags(model));
  complete_verification_model(command.options, command.given);
  LayoutVerification verification(command.options);
  for (const char* layout : layouts) {
    const LayoutResult result = verification.verify(layout_from_name(layout));
    EXPECT_TRUE(result.holds(kBoundOfFaults)) << VerificationReport(kBoundOfFaults, 20).row(result);
  }
}

// A vocabulary that does not divide: some ranks hold padding, which must not be smoothed over.
TEST(NumericalFaults, LabelSmoothingCountsTheGlobalVocabulary) {
  for (const char* loss : {"", "--cross-entropy-loss-fusion",
                           "--cross-entropy-loss-fusion --cross-entropy-fusion-impl linear"}) {
    expect_numbers_of_one_rank(
        std::string("--label-smoothing 0.2 --make-vocab-size-divisible-by 8 ") + loss,
        {"tp2", "tp4+sp"});
  }
}

TEST(NumericalFaults, GatheredLogitsGiveTheSameLoss) {
  const auto losses_of = [](const GPTModelConfig& config, const ProcessGroupCollection& groups,
                            std::optional<bool> gather) {
    const at::NoGradGuard no_grad;
    GPTModelInput input = token_input(/*b=*/2, /*s=*/4);
    input.labels = (input.input_ids * 7 + 3) % *config.vocab_size;
    input.runtime_gather_output = gather;
    return build_gpt(config, /*seed=*/1234, groups)->forward(input, evaluation_context(2, 4));
  };
  for (const bool fused : {false, true}) {
    GPTModelConfig config = small_gpt_config();
    config.transformer.params_dtype = at::kDouble;
    config.transformer.cross_entropy_loss_fusion = fused;
    const at::Tensor want = losses_of(config, ProcessGroupCollection::single_rank(), {});
    config.transformer.tensor_model_parallel_size = 2;
    run_thread_world(2, [&](RankContext& rank) {
      const ProcessGroupCollection groups = make_model_groups(config.transformer, rank);
      for (const bool parallel_output : {true, false}) {
        GPTModelConfig of_rank = config;
        of_rank.parallel_output = parallel_output;
        for (const std::optional<bool> gather : {std::optional<bool>(), {true}, {false}}) {
          EXPECT_TRUE(at::allclose(losses_of(of_rank, groups, gather), want, 0, 1e-12))
              << parallel_output << gather.value_or(false);
        }
      }
    });
  }
}

// One micro-batch counts only tokens that stand at the beginning of its rows: most context-parallel
// ranks then have none of their own.
TEST(NumericalFaults, MtpCountsTheTokensOfAllContextParallelRanks) {
  for (const char* loss : {"", "--calculate-per-token-loss"}) {
    expect_numbers_of_one_rank(std::string("--mtp-num-layers 2 --seq-length 32 ") + loss,
                               {"cp2", "cp4:allgather", "tp2+sp+cp2", "pp2+cp2", "cp2+dp2"});
  }
}

TEST(NumericalFaults, GradientsOfAttentionSinksCountOnceInTheNorm) {
  expect_numbers_of_one_rank("--softmax-type learnable --init-method-std 0.1",
                             {"tp2", "tp4+sp", "tp2+cp2:a2a", "tp2+zero1"});
}

// The divisor of a micro-batch's loss is the number of its tokens on all ranks.
TEST(NumericalFaults, ContextParallelismKeepsTheGradientUnderUnevenMasks) {
  for (const char* loss : {"", "--calculate-per-token-loss"})
    expect_numbers_of_one_rank(loss, {"cp2", "cp4", "cp2:a2a", "cp2+dp2", "cp4+zero1"});
}

// Every rank of the tensor-parallel group holds these norms, and sees its own heads alone.
TEST(NumericalFaults, ReplicatedNormsInsideTensorParallelismCountOnce) {
  const std::vector<const char*> layouts = {"tp2", "tp2+sp", "tp4", "tp2+fsdp2"};
  expect_numbers_of_one_rank("--qk-layernorm", layouts);
  expect_numbers_of_one_rank("--qk-layernorm --num-query-groups 1 --normalization RMSNorm",
                             layouts);
  expect_numbers_of_one_rank(
      "--multi-latent-attention --position-embedding-type rope --q-lora-rank 12 --kv-lora-rank 8 "
      "--qk-head-dim 8 --qk-pos-emb-head-dim 4 --v-head-dim 8",
      layouts);
}

TEST(NumericalFaults, TwoStagesExchangeInBothDirections) {
  for (const char* model : {"", "--num-layers 8"})
    expect_numbers_of_one_rank(model, {"pp2", "pp2+vp2", "pp2+no-p2p-overlap", "pp2+varlen"});
}

TEST(NumericalFaults, ShardingOverAGroupOfOneChangesNothing) {
  expect_numbers_of_one_rank("", {"fsdp1+dp1", "fsdp2+dp1", "fsdp3+dp1", "zero1+dp1",
                                  "torch-fsdp2+dp1", "tp2+fsdp3+dp1", "pp2+fsdp2+overlap+dp1"});
}

// The copy on the last stage takes part in the gradient and not in the norm.
TEST(NumericalFaults, TiedEmbeddingsCountOnceInTheNorm) {
  expect_numbers_of_one_rank("--mtp-num-layers 1", {"pp2", "pp4", "tp2+pp2+zero1"});
  expect_numbers_of_one_rank("--position-embedding-type learned_absolute",
                             {"pp2+vp2", "pp4", "pp2+fsdp3+overlap"});
}

}  // namespace
}  // namespace megatron
