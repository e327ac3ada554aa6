// Tests that tensor-parallel layers compute between the start of a collective and the wait for it.
#include <gmock/gmock.h>
#include <map>
#include <thread>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"

#include "tests/parallel/commanded_backend.h"

namespace megatron {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

at::Tensor wave(at::IntArrayRef shape) {
  return at::sin(at::arange(c10::multiply_integers(shape), at::kDouble)).view(shape);
}

class Overlap : public testing::Test {
 protected:
  static constexpr int64_t s = 8, b = 2, in = 6, out = 4;

  LayerOptions layer_options(bool sequence_parallel) const {
    return {.tensor = at::TensorOptions(at::kDouble),
            .tp = tp_.group,
            .sequence_parallel = sequence_parallel};
  }

  // Fills the parameters and sets their main gradients to zero.
  static void prepare(const MegatronModule& module) {
    const at::NoGradGuard no_grad;
    for (const ParameterPtr& parameter : module.parameters()) {
      parameter->data.copy_(wave(parameter->data.sizes()));
      parameter->main_grad = at::zeros_like(parameter->data);
    }
  }

  // Runs `body` on a new thread, whose matrix products appear in the log.
  template <typename Body>
  std::thread noted(const Body& body) {
    return std::thread([this, body] {
      const NotedProducts products(*tp_.backend);
      body();
    });
  }

  CommandedGroup tp_{/*rank=*/0, /*size=*/2};
};

TEST_F(Overlap, WeightGradientOverlapsWithTheInputGradientAllReduce) {
  ColumnParallelLinear column({.input_size = in, .output_size = 2 * out, .bias = false},
                              layer_options(false));
  prepare(column);
  const at::Tensor x = wave({s, b, in}).set_requires_grad(true);
  const at::Tensor output = column.forward(x);
  std::thread rank = noted([&] { torch::autograd::backward({output}, {at::ones_like(output)}); });
  tp_.backend->await_waiter(0);
  // The rank waits for the all-reduce, which has not completed; the weight gradient is already
  // there.
  EXPECT_GT(column.weight()->main_grad.abs().sum().item<double>(), 0);
  EXPECT_FALSE(x.grad().defined());
  EXPECT_THAT(tp_.backend->log(),
              ElementsAre("product", "start all_reduce 0", "product", "wait all_reduce 0"));
  tp_.backend->complete(0);
  rank.join();
  EXPECT_TRUE(x.grad().defined());
}

TEST_F(Overlap, FrozenWeightCostsNoMatmulAndTheInputGradientIsReduced) {
  ColumnParallelLinear column({.input_size = in, .output_size = 2 * out, .bias = false},
                              layer_options(false));
  prepare(column);
  column.weight()->data.requires_grad_(false);
  column.weight()->main_grad.reset();
  tp_.backend->complete_all();
  at::Tensor x = wave({s, b, in}).set_requires_grad(true), between = x * 1;
  const at::Tensor output = column.forward(between);
  EXPECT_EQ(between.use_count(), 1);  // the input is not saved
  const NotedProducts products(*tp_.backend);
  torch::autograd::backward({output}, {at::ones_like(output)});
  EXPECT_THAT(tp_.backend->log(),
              ElementsAre("product", "start all_reduce 0", "wait all_reduce 0"));
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(column.weight()->data.grad().defined());
}

TEST_F(Overlap, AllGatherInBackwardAndReduceScatterOverlapWithMatmuls) {
  LayerOptions options = layer_options(true);
  options.all_gather_input_in_backward = true;
  ColumnParallelLinear column({.input_size = in, .output_size = 2 * out, .bias = false}, options);
  prepare(column);
  tp_.backend->complete_all();
  const at::Tensor x = wave({s / 2, b, in}).set_requires_grad(true);
  const NotedProducts products(*tp_.backend);
  const at::Tensor output = column.forward(x);
  torch::autograd::backward({output}, {at::ones_like(output)});
  EXPECT_THAT(tp_.backend->log(),
              ElementsAre("start all_gather 0", "wait all_gather 0", "product",  // forward
                          "start all_gather 1", "product", "start reduce_scatter 2",
                          "wait all_gather 1", "product", "wait reduce_scatter 2"));
}

TEST_F(Overlap, LocalShardIsMultipliedWhileTheOtherIsReceived) {
  LayerOptions options = layer_options(true);
  options.tp_comm_overlap = true;
  ColumnParallelLinear column({.input_size = in, .output_size = 2 * out, .bias = false}, options);
  prepare(column);
  at::Tensor output;
  std::thread rank = noted([&] { output = column.forward(wave({s / 2, b, in})); });
  tp_.backend->await_waiter(1);
  EXPECT_THAT(tp_.backend->log(),
              ElementsAre("start send 0", "start recv 1", "product", "wait recv 1"));
  tp_.backend->complete(1);
  tp_.backend->await_waiter(0);
  EXPECT_THAT(tp_.backend->log(), ElementsAre("start send 0", "start recv 1", "product",
                                              "wait recv 1", "product", "wait send 0"));
  tp_.backend->complete(0);
  rank.join();
  EXPECT_EQ(output.sizes(), at::IntArrayRef({s, b, out}));
}

TEST_F(Overlap, ChunksAreReducedWhileTheNextAreMultiplied) {
  LayerOptions options = layer_options(true);
  options.tp_comm_overlap = true;
  RowParallelLinear row({.input_size = 2 * in, .output_size = out, .bias = false}, options);
  prepare(row);
  std::thread rank = noted([&] { row.forward(wave({s, b, in})); });
  tp_.backend->await_waiter(0);
  // Four chunks of one token for each of two ranks; no reduction has completed.
  std::vector<std::string> expected;
  for (int chunk = 0; chunk < 4; ++chunk) {
    expected.insert(expected.end(), {"product", "product"});
    expected.push_back("start reduce_scatter " + std::to_string(chunk));
  }
  expected.push_back("wait reduce_scatter 0");
  EXPECT_THAT(tp_.backend->log(), ElementsAreArray(expected));
  tp_.backend->complete_all();
  rank.join();
}

// tp_comm_overlap_cfg sets how many pieces a linear layer's collectives have, and which they are.
class NamedOverlap : public Overlap {
 protected:
  LayerOptions options_of(std::map<std::string, TpOverlapEntry> entries) const {
    LayerOptions options = layer_options(true);
    options.tp_comm_overlap = true;
    options.tp_overlaps = std::make_shared<const TpOverlaps>(
        tp_overlaps({.file = "", .entries = std::move(entries)}));
    return options;
  }
  // The numbers of collectives or messages of each kind in a forward and a backward pass.
  template <typename Layer>
  std::map<std::string, int> starts(const Layer& layer, const at::Tensor& x) {
    prepare(layer);
    tp_.backend->complete_all();
    const size_t before = tp_.backend->log().size();
    const at::Tensor output = layer.forward(x.clone().set_requires_grad(true));
    torch::autograd::backward({output}, {at::ones_like(output)});
    std::map<std::string, int> counts;
    const std::vector<std::string> log = tp_.backend->log();
    for (size_t i = before; i < log.size(); ++i) {
      if (!log[i].starts_with("start ")) continue;
      ++counts[log[i].substr(6, log[i].rfind(' ') - 6)];
    }
    return counts;
  }
};

TEST_F(NamedOverlap, SetsThePiecesOfAColumnParallelLayer) {
  const auto starts_of = [&](const std::string& name,
                             std::map<std::string, TpOverlapEntry> entries) {
    const ColumnParallelLinear column(
        {.input_size = in, .output_size = 2 * out, .bias = false, .tp_comm_buffer_name = name},
        options_of(std::move(entries)));
    return starts(column, wave({s / 2, b, in}));
  };
  using Counts = std::map<std::string, int>;
  EXPECT_EQ(starts_of("qkv", {}), (Counts{{"send", 1}, {"recv", 1}, {"reduce_scatter", 4}}));
  const std::map<std::string, TpOverlapEntry> entries = {
      {"qkv_fprop", {.method = {}, .num_splits = 2}},
      {"qkv_dgrad", {.method = {}, .num_splits = 3}},
      {"fc1_fprop", {.method = "none", .num_splits = {}}},
      {"fc1_wgrad", {.method = "bulk", .num_splits = {}}}};
  EXPECT_EQ(starts_of("qkv", entries), (Counts{{"send", 2}, {"recv", 2}, {"reduce_scatter", 3}}));
  EXPECT_EQ(starts_of("fc1", entries), (Counts{{"all_gather", 1}, {"reduce_scatter", 1}}));
}

TEST_F(NamedOverlap, SetsThePiecesOfARowParallelLayer) {
  const auto starts_of = [&](const std::string& name,
                             std::map<std::string, TpOverlapEntry> entries) {
    const RowParallelLinear row(
        {.input_size = 2 * in, .output_size = out, .bias = false, .tp_comm_buffer_name = name},
        options_of(std::move(entries)));
    return starts(row, wave({s, b, in}));
  };
  using Counts = std::map<std::string, int>;
  EXPECT_EQ(starts_of("fc2", {}), (Counts{{"send", 1}, {"recv", 1}, {"reduce_scatter", 4}}));
  const std::map<std::string, TpOverlapEntry> entries = {
      {"fc2_fprop", {.method = {}, .num_splits = 2}},
      {"fc2_dgrad", {.method = {}, .num_splits = 4}},
      {"proj_fprop", {.method = "none", .num_splits = {}}},
      {"proj_dgrad", {.method = "none", .num_splits = {}}}};
  EXPECT_EQ(starts_of("fc2", entries), (Counts{{"send", 4}, {"recv", 4}, {"reduce_scatter", 2}}));
  EXPECT_EQ(starts_of("proj", entries), (Counts{{"all_gather", 1}, {"reduce_scatter", 1}}));
}

TEST_F(Overlap, InputGradientReductionOverlapsWithTheWeightGradient) {
  LayerOptions options = layer_options(true);
  options.tp_comm_overlap = true;
  ColumnParallelLinear column({.input_size = in, .output_size = 2 * out, .bias = false}, options);
  prepare(column);
  tp_.backend->complete_all();
  const at::Tensor x = wave({s / 2, b, in}).set_requires_grad(true);
  const at::Tensor output = column.forward(x);
  const size_t forward = tp_.backend->log().size();
  const NotedProducts products(*tp_.backend);
  torch::autograd::backward({output}, {at::ones_like(output)});
  const std::vector<std::string> log = tp_.backend->log();
  const auto position = [&](const std::string& line) {
    return std::find(log.begin() + forward, log.end(), line) - log.begin();
  };
  const auto last_product = std::find(log.rbegin(), log.rend(), "product");
  EXPECT_LT(position("start reduce_scatter 5"), log.rend() - last_product - 1);
  EXPECT_LT(log.rend() - last_product - 1, position("wait reduce_scatter 2"));
}

TEST_F(Overlap, InputsOfDeferredGradientsAreGatheredDuringMatmuls) {
  LayerOptions options = layer_options(true);
  options.all_gather_input_in_backward = true;
  ColumnParallelLinear column({.input_size = in,
                               .output_size = 2 * out,
                               .bias = false,
                               .weight_gradient_deferral_limit = 0},
                              options);
  prepare(column);
  tp_.backend->complete_all();
  for (int pass = 0; pass < 2; ++pass) {
    const at::Tensor output = column.forward(wave({s / 2, b, in}).set_requires_grad(true));
    torch::autograd::backward({output}, {at::ones_like(output)});
  }
  EXPECT_EQ(column.weight()->main_grad.abs().sum().item<double>(), 0);
  const size_t before = tp_.backend->log().size();
  const NotedProducts products(*tp_.backend);
  column.compute_deferred_weight_gradients();
  std::vector<std::string> log = tp_.backend->log();
  log.erase(log.begin(), log.begin() + before);
  EXPECT_THAT(log, ElementsAre("start all_gather 4", "wait all_gather 4", "start all_gather 5",
                               "product", "wait all_gather 5", "product"));
  EXPECT_GT(column.weight()->main_grad.abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace megatron
