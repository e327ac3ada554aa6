// FP8 training in parallel layouts against one rank: the same scales, losses within a bound, and codes
// that recomputation repeats.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/config/model/enum_names.h"
#include "megatron/tensor_parallel/linear_quantizer.h"

#include "tests/training/sharded_run.h"

namespace megatron {
namespace {

struct Fp8Layout {
  ShardedLayout layout;
  Sharding sharding = kPlain;
};

const Fp8Layout kFp8Layouts[] = {
    {{"tp2", 2, 2, 1, false}},
    {{"tp2_sp", 2, 2, 1, true}},
    {{"pp2", 2, 1, 2, false}},
    {{"cp2", 2, 1, 1, false, 2}},
    {{"dp2_zero1", 2, 1, 1, false}, {"optim", DataParallelShardingStrategy::optim}},
    {{"dp2_fsdp", 2, 1, 1, false}, {"fsdp", DataParallelShardingStrategy::optim_grads_params}},
};

// Sizes whose shards hold whole blocks of 128.
Options fp8_options(const ShardedLayout& layout, const Sharding& sharding, Fp8Recipe recipe,
                    at::ScalarType dtype = at::kFloat) {
  Options options = sharded_options(layout, sharding, dtype);
  TransformerConfig& t = options.model.transformer;
  t.num_layers = 2;
  t.hidden_size = 256;
  t.ffn_hidden_size = 512;
  t.num_attention_heads = 4;
  t.init_method_std = 0.05;
  const bool hybrid = recipe == Fp8Recipe::delayed || recipe == Fp8Recipe::tensorwise;
  t.low_precision.fp8 = hybrid ? Fp8Format::hybrid : Fp8Format::e4m3;
  t.low_precision.fp8_recipe = recipe;
  if (recipe == Fp8Recipe::delayed) t.low_precision.fp8_amax_history_len = 2;
  validate(options, layout.world, Command::bench);
  return options;
}

constexpr ShardedLayout kFp8OneRank = {"one_rank", 1, 1, 1, false};

// The rows of fp8_state, by layer.
std::map<std::string, at::Tensor> scales_of(const GPTModel& model) {
  std::map<std::string, at::Tensor> scales;
  for (const ParameterPtr& parameter : model.parameters()) {
    if (parameter->name.ends_with(".fp8_state")) scales[parameter->name] = parameter->data.clone();
  }
  return scales;
}

class Fp8Training : public testing::TestWithParam<Fp8Recipe> {};

TEST_P(Fp8Training, LayoutsHaveTheLossesOfOneRank) {
  constexpr int64_t steps = 3, microbatches = 2;
  RunNumbers one;
  std::map<std::string, at::Tensor> scales;
  run_thread_world(1, [&](RankContext& rank) {
    TrainingRun run(fp8_options(kFp8OneRank, kPlain, GetParam()), rank);
    one = run.train(steps, microbatches);
    scales = scales_of(*run.model);
  });
  EXPECT_EQ(scales.size(), GetParam() == Fp8Recipe::delayed ? 8u : 0u);
  for (const Fp8Layout& row : kFp8Layouts) {
    SCOPED_TRACE(row.layout.name);
    const Options options = fp8_options(row.layout, row.sharding, GetParam());
    run_thread_world(row.layout.world, [&](RankContext& rank) {
      TrainingRun run(options, rank);
      const RunNumbers got = run.train(steps, microbatches);
      for (size_t i = 0; i < got.losses.size(); ++i) {
        // The updates of a step, at a high learning rate, magnify codes that rounding moved.
        const double bound = i == 0 ? 1e-3 : 2e-2;
        EXPECT_NEAR(got.losses[i], one.losses[i], bound * one.losses[i]) << "step " << i;
        EXPECT_NEAR(got.grad_norms[i], one.grad_norms[i], 5 * bound * one.grad_norms[i])
            << "step " << i;
      }
      for (const auto& [name, state] : scales_of(*run.model)) {
        const double largest =
            (state / scales.at(name) - 1).abs().nan_to_num(0).max().item<double>();
        EXPECT_LT(largest, 0.2) << name;
      }
    });
  }
}

TEST_P(Fp8Training, TheSameRunTwiceAndRecomputedIsTheSame) {
  const Options options = fp8_options(kFp8OneRank, kPlain, GetParam(), at::kBFloat16);
  const RunNumbers first = train_in_one_rank(options, 2, 2),
                   again = train_in_one_rank(options, 2, 2);
  Sharding recomputing = kPlain;
  recomputing.full_recomputation = true;
  const RunNumbers recomputed =
      train_in_one_rank(fp8_options(kFp8OneRank, recomputing, GetParam(), at::kBFloat16), 2, 2);
  for (const RunNumbers* other : {&again, &recomputed}) {
    EXPECT_EQ(first.losses, other->losses);
    EXPECT_EQ(first.grad_norms, other->grad_norms);
    for (const auto& [name, weight] : first.weights)
      EXPECT_TRUE(at::equal(weight, other->weights.at(name))) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Recipes, Fp8Training,
                         testing::Values(Fp8Recipe::delayed, Fp8Recipe::tensorwise,
                                         Fp8Recipe::blockwise, Fp8Recipe::mxfp8),
                         [](const auto& info) { return std::string(enum_name(info.param)); });

// Weights are quantised once for all micro-batches of a step.
TEST(Fp8Step, CountsWeightsOnceAndOperandsOfEachMicroBatch) {
  run_thread_world(1, [&](RankContext& rank) {
    TrainingRun run(fp8_options(kFp8OneRank, kPlain, Fp8Recipe::tensorwise), rank);
    const auto elements = [&](int64_t microbatches) {
      const auto local = local_microbatches(*run.model, 0, microbatches);
      return run.step->forward_backward(local, BatchSharing::whole_microbatches)
          .low_precision->elements;
    };
    const double one = elements(1), two = elements(2);
    // 2 layers: qkv, proj, fc1, fc2.
    const double weights = 2 * (256.0 * 768 + 256 * 256 + 2 * 256 * 512);
    EXPECT_EQ(2 * one - two, weights);
  });
}

TEST(LinearQuantizer, ShardsShareTheScaleOfTheirTensor) {
  const at::Tensor whole = at::arange(1, 33, at::kFloat).view({4, 8});
  LowPrecisionConfig config{.fp8 = Fp8Format::hybrid, .fp8_recipe = Fp8Recipe::tensorwise};
  run_thread_world(2, [&](RankContext& rank) {
    GPTModelConfig model;
    model.transformer.num_layers = 1;
    model.transformer.tensor_model_parallel_size = 2;
    const ProcessGroupCollection groups = make_model_groups(model.transformer, rank);
    const LayerOptions options{.tensor = at::TensorOptions(at::kFloat), .tp = groups.tp};
    LinearQuantizer column(config, WeightPartition::column, options),
        row(config, WeightPartition::row, options);
    const at::Tensor rows = whole.narrow(0, 2 * rank.rank, 2),
                     columns = whole.narrow(1, 4 * rank.rank, 4);
    const auto scale = [](const QuantizedTensor& x) { return x.scale_inv.item<float>(); };
    EXPECT_EQ(scale(column.quantize(LinearOperand::weight, rows)), 32.0f / 448);
    EXPECT_EQ(scale(row.quantize(LinearOperand::weight, columns)), 32.0f / 448);
    EXPECT_EQ(scale(row.quantize(LinearOperand::input, columns)), 32.0f / 448);
    EXPECT_EQ(scale(column.quantize(LinearOperand::gradient, columns)), 32.0f / 57344);
    // Every rank has the whole of these.
    const float own = rows.max().item<float>();
    EXPECT_EQ(scale(column.quantize(LinearOperand::input, rows)), 1.0f / (448 / own));
    const QuantizedTensor shard = column.quantize(LinearOperand::weight, rows),
                          full = quantize_tensorwise(whole, LowPrecisionFormat::e4m3);
    EXPECT_TRUE(at::equal(shard.codes, full.codes.narrow(0, 2 * rank.rank, 2)));
  });
}

TEST(LinearQuantizer, CountsSaturatedAndUnderflowedElements) {
  LowPrecisionConfig config{.fp8 = Fp8Format::e4m3};
  run_thread_world(1, [&](RankContext& rank) {
    GPTModelConfig model;
    model.transformer.num_layers = 1;
    const ProcessGroupCollection groups = make_model_groups(model.transformer, rank);
    LinearQuantizer quantizer(config, WeightPartition::none,
                              {.tensor = at::TensorOptions(at::kFloat), .tp = groups.tp});
    quantizer.begin_step();
    // The scale is 1 at first: 464 still rounds to 448, 2^-11 to 0 and 2^-9 does not.
    quantizer.quantize(
        LinearOperand::input,
        at::tensor({448.f, 464.f, 465.f, 1e9f, 0.f, 0x1p-11f, 0x1p-9f, -1e9f}).view({2, 4}));
    EXPECT_EQ(quantizer.totals().elements, 8);
    EXPECT_EQ(quantizer.totals().saturated, 3);
    EXPECT_EQ(quantizer.totals().underflowed, 1);
    EXPECT_EQ(quantizer.recorded_amax()[0], 1e9f);
    quantizer.end_step(quantizer.recorded_amax());
    EXPECT_EQ(quantizer.state()->data[0][0].item<float>(), 448 / 1e9f);
    EXPECT_EQ(quantizer.state()->data[1][0].item<float>(), 1);
  });
}

}  // namespace
}  // namespace megatron
