// Losses of a step and MTP weights: computed by hand, and compared between different splits of the
// same rows into micro-batches.
#include "megatron/training/loss_normalizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/train_step.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"
#include "tests/training/wrapped_models.h"

namespace megatron {
namespace {

MicroBatch masked_microbatch(const std::vector<float>& mask) {
  MicroBatch microbatch;
  microbatch.loss_mask = at::tensor(mask).unsqueeze(0);
  microbatch.sample_ordinals = at::zeros({1}, at::kLong);
  return microbatch;
}

// Token losses 1, 2, 3, 4 in the first micro-batch and 10, 20, 30, 40 in the second.
StepLosses losses_by_hand(const TransformerConfig& config, std::vector<double>& backward_values,
                          double& gradient_scale) {
  const auto groups = ProcessGroupCollection::single_rank();
  const std::vector<MicroBatch> microbatches = {masked_microbatch({1, 1, 1, 1}),
                                                masked_microbatch({0, 1, 0, 0})};
  LossNormalizer normalizer(config, microbatches, BatchSharing::whole_microbatches, groups);
  for (int64_t i = 0; i < 2; ++i) {
    const at::Tensor losses = at::tensor({1.0, 2.0, 3.0, 4.0}).unsqueeze(0) * (i == 0 ? 1 : 10);
    backward_values.push_back(normalizer.add(i, losses, microbatches[i].loss_mask).item<double>());
  }
  const StepLosses losses = normalizer.reduce();
  gradient_scale = normalizer.gradient_scale();
  return losses;
}

TEST(LossNormalizer, ReportsSummedLossOverSummedTokens) {
  TransformerConfig config;
  std::vector<double> values;
  double scale = 0;
  StepLosses losses = losses_by_hand(config, values, scale);
  EXPECT_DOUBLE_EQ(losses.loss, (10.0 + 20.0) / 5);
  EXPECT_DOUBLE_EQ(losses.objective, 0.5 * (10.0 / 4 + 20.0));
  EXPECT_DOUBLE_EQ(values[0] + values[1], losses.objective);
  EXPECT_EQ(scale, 1.0);

  config.calculate_per_token_loss = true;
  values.clear();
  losses = losses_by_hand(config, values, scale);
  EXPECT_DOUBLE_EQ(losses.loss, 6);
  EXPECT_DOUBLE_EQ(losses.objective, 6);
  EXPECT_DOUBLE_EQ((values[0] + values[1]) * scale, 6);
}

// Masks 1111 and 0100 roll to 1110 and 1000: N = 4 and 1, M = 3 and 1.
TEST(LossNormalizer, WeighsMtpLossesByTheTokensOfTheStep) {
  TransformerConfig config;
  config.mtp.mtp_num_layers = 1;
  config.mtp.mtp_loss_scaling_factor = 0.5;
  const auto groups = ProcessGroupCollection::single_rank();
  const std::vector<MicroBatch> microbatches = {masked_microbatch({1, 1, 1, 1}),
                                                masked_microbatch({0, 1, 0, 0})};
  const auto weight = [&](int64_t i) {
    return LossNormalizer(config, microbatches, BatchSharing::whole_microbatches, groups)
        .mtp_record(i)
        ->weights.at(0);
  };
  EXPECT_DOUBLE_EQ(weight(0), 0.5 / 3 / 2);
  EXPECT_DOUBLE_EQ(weight(1), 0.5 / 1 / 2);
  config.calculate_per_token_loss = true;
  EXPECT_DOUBLE_EQ(weight(0), 0.5 * 5 / 4);
  EXPECT_DOUBLE_EQ(weight(1), 0.5 * 5 / 4);
}

Options sixteen_row_options(int64_t mtp_layers, bool per_token) {
  Options options;
  GPTModelConfig& config = options.model;
  config.vocab_size = 50;
  config.make_vocab_size_divisible_by = 8;
  config.seq_length = 16;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = 2;
  transformer.hidden_size = 32;
  transformer.num_attention_heads = 4;
  transformer.params_dtype = at::kDouble;
  transformer.hidden_dropout = transformer.attention_dropout = 0;
  transformer.init_method_std = 0.3;
  transformer.calculate_per_token_loss = per_token;
  if (mtp_layers > 0)
    transformer.mtp = {.mtp_num_layers = mtp_layers, .mtp_loss_scaling_factor = 0.3};
  return options;
}

// Rows [first, first + rows) of 16, whose masks keep 1 to 16 tokens.
MicroBatch uneven_rows(const GPTModelConfig& config, int64_t first, int64_t rows) {
  const int64_t s = config.seq_length;
  std::vector<at::Tensor> text, mask;
  for (int64_t row = first; row < first + rows; ++row) {
    text.push_back((at::arange(s + 1, at::kLong) + 97 * row) * 31 % 47 % *config.vocab_size);
    mask.push_back((at::arange(s, at::kLong) * 5 % 16 <= row).to(at::kDouble));
  }
  const at::Tensor tokens = at::stack(text);
  return {.tokens = tokens.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({rows, s}).contiguous(),
          .labels = tokens.narrow(1, 1, s).contiguous(),
          .loss_mask = at::stack(mask),
          .attention_mask = {},
          .sample_ordinals = at::arange(first, first + rows, at::kLong)};
}

// Loss, MTP losses and gradient norm of one step over 16 rows.
std::vector<double> step_over_sixteen_rows(Options options, int64_t rows_per_microbatch,
                                           const RankContext& rank) {
  const auto groups = make_model_groups(options.model, rank);
  const auto model = build_gpt_model(options.model, groups, rank.device);
  initialize_weights(*model, /*seed=*/3);
  TrainStep step(wrapped(model, options), options);
  const int64_t dp = groups.dp->size();
  std::vector<MicroBatch> microbatches;
  for (int64_t i = groups.dp->rank(); i * rows_per_microbatch < 16; i += dp)
    microbatches.push_back(
        uneven_rows(options.model, i * rows_per_microbatch, rows_per_microbatch));
  const auto result = step.run(microbatches, BatchSharing::whole_microbatches, 1e-3);
  std::vector<double> numbers = {result.loss, result.grad_norm};
  for (const MtpRecord& depth : result.mtp) numbers.push_back(depth.loss);
  return numbers;
}

TEST(PerTokenLoss, DoesNotDependOnHowRowsAreCutIntoMicroBatches) {
  const Options options = sixteen_row_options(/*mtp_layers=*/2, /*per_token=*/true);
  std::vector<double> whole;
  run_thread_world(1,
                   [&](RankContext& rank) { whole = step_over_sixteen_rows(options, 16, rank); });
  for (const auto& [world, rows] : {std::pair{1, 1}, {1, 4}, {2, 1}, {2, 8}, {4, 2}}) {
    run_thread_world(world, [&, rows = rows, world = world](RankContext& rank) {
      const auto ours = step_over_sixteen_rows(options, rows, rank);
      ASSERT_EQ(ours.size(), whole.size());
      for (size_t i = 0; i < whole.size(); ++i)
        EXPECT_NEAR(ours[i], whole[i], 1e-12)
            << "number " << i << ", " << world << " ranks, micro-batches of " << rows << " rows";
    });
  }
}

// Gradients are those of the mean of micro-batch means there, but the reported losses are sums.
TEST(DefaultLoss, IsReportedTheSameForAnyMicroBatchSize) {
  const Options options = sixteen_row_options(/*mtp_layers=*/1, /*per_token=*/false);
  run_thread_world(1, [&](RankContext& rank) {
    const auto whole = step_over_sixteen_rows(options, 16, rank);
    for (const int64_t rows : {1, 2, 8}) {
      const auto ours = step_over_sixteen_rows(options, rows, rank);
      EXPECT_NEAR(ours[0], whole[0], 1e-12) << rows;
      EXPECT_NEAR(ours[2], whole[2], 1e-12) << rows;
      EXPECT_GT(std::abs(ours[1] - whole[1]), 1e-6) << rows;
    }
  });
}

// A micro-batch without tokens that count used to halve the reported loss.
TEST(DefaultLoss, AFullyMaskedMicroBatchDoesNotChangeTheReportedLoss) {
  const Options options = sixteen_row_options(/*mtp_layers=*/0, /*per_token=*/false);
  const auto groups = ProcessGroupCollection::single_rank();
  const auto model = build_gpt_model(options.model, groups, at::kCPU);
  initialize_weights(*model, /*seed=*/3);
  TrainStep step(wrapped(model, options), options);
  const MicroBatch counted = uneven_rows(options.model, 8, 4);
  MicroBatch masked = uneven_rows(options.model, 12, 4);
  masked.loss_mask.zero_();
  const double alone = step.forward_backward({counted}, BatchSharing::whole_microbatches).loss;
  const auto both = step.forward_backward({counted, masked}, BatchSharing::whole_microbatches);
  EXPECT_NEAR(both.loss, alone, 1e-12);
  EXPECT_NEAR(both.objective, alone / 2, 1e-12);
}

}  // namespace
}  // namespace megatron
