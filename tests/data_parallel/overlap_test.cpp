// Communication overlaps with computation. A backend whose operations complete on command shows
// what is computed between the start of an operation and the wait for it.
#include <gmock/gmock.h>

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/ops/recompute.h"

#include "tests/data_parallel/scripted_model.h"

namespace megatron {
namespace {

void run_pass(const ScriptedModel& model, DistributedDataParallel& ddp, Script& script,
              bool is_last) {
  at::Tensor x = at::ones({2, 16}, at::kDouble).set_requires_grad(true);
  for (const auto& layer : model.layers) x = layer->forward(x);
  const at::Tensor loss = x.sum();
  if (is_last) ddp.start_last_backward();
  torch::autograd::backward({loss}, {});
  script.add("backward over");
}

class UnshardedGradients : public testing::TestWithParam<DataParallelShardingStrategy> {};

TEST_P(UnshardedGradients, AreReducedDuringBackward) {
  Script script;
  const ScriptedModel model(script);
  DistributedDataParallel ddp(model.module_groups(), overlapped(GetParam()),
                              commanded_group(script));
  const std::string kind =
      GetParam() == DataParallelShardingStrategy::no_shard ? "all_reduce" : "reduce_scatter";
  for (int step = 0; step < 3; ++step) {
    script.restart();
    for (int bucket = 0; bucket < kLayers; ++bucket)
      script.complete_after(fmt::format("{} {}", kind, bucket), "backward over");
    ddp.zero_gradients();
    run_pass(model, ddp, script, /*is_last=*/false);
    EXPECT_FALSE(script.happened(fmt::format("start {} 0", kind)));
    run_pass(model, ddp, script, /*is_last=*/true);
    // The first step learns the number of gradients; in later steps all reductions have started.
    EXPECT_EQ(script.happened(fmt::format("start {} {}", kind, kLayers - 1)), step > 0);
    ddp.finish_gradients();
    EXPECT_TRUE(script.happened(fmt::format("wait {} {}", kind, kLayers - 1)));
    EXPECT_TRUE(at::equal(ddp.owned_slices()[0].main_grad.view(-1).narrow(0, 0, 16),
                          at::full({16}, 4.0, at::kDouble)));
  }
}

// Bucket 0 holds the last layer.
TEST_P(UnshardedGradients, StartBeforeTheNextLayersBackward) {
  Script script;
  const ScriptedModel model(script);
  DistributedDataParallel ddp(model.module_groups(), overlapped(GetParam()),
                              commanded_group(script));
  const std::string kind =
      GetParam() == DataParallelShardingStrategy::no_shard ? "all_reduce" : "reduce_scatter";
  for (int step = 0; step < 2; ++step) {
    script.restart();
    ddp.zero_gradients();
    run_pass(model, ddp, script, /*is_last=*/true);
    ddp.finish_gradients();
  }
  for (int bucket = 0; bucket + 1 < kLayers; ++bucket) {
    EXPECT_LT(script.place(fmt::format("start {} {}", kind, bucket)),
              script.place(fmt::format("backward {}", kLayers - 2 - bucket)));
    EXPECT_GT(script.place(fmt::format("wait {} {}", kind, bucket)), script.place("backward over"));
  }
}

// The gradient of the last layer is completed after the backward passes and does not delay others.
TEST_P(UnshardedGradients, ThatAreDeferredAreReducedAtTheEndOfTheStep) {
  Script script;
  const ScriptedModel model(script);
  const ParameterPtr deferred = model.layers.back()->parameters().front();
  deferred->gradient_is_deferred = true;
  DistributedDataParallel ddp(model.module_groups(), overlapped(GetParam()),
                              commanded_group(script));
  const std::string kind =
      GetParam() == DataParallelShardingStrategy::no_shard ? "all_reduce" : "reduce_scatter";
  for (int step = 0; step < 3; ++step) {
    script.restart();
    ddp.zero_gradients();
    run_pass(model, ddp, script, /*is_last=*/true);
    EXPECT_EQ(script.happened(fmt::format("start {} {}", kind, kLayers - 2)), step > 0);
    EXPECT_FALSE(script.happened(fmt::format("start {} {}", kind, kLayers - 1)));
    if (step > 0) {
      EXPECT_LT(script.place(fmt::format("start {} 0", kind)), script.place("backward 1"));
    }
    deferred->main_grad.add_(1);
    ddp.finish_gradients();
    EXPECT_TRUE(script.happened(fmt::format("wait {} {}", kind, kLayers - 1)));
    const ParameterSlice& last = ddp.owned_slices().back();
    EXPECT_EQ(last.parameter, deferred);
    EXPECT_TRUE(
        at::equal(last.main_grad.view(-1).narrow(0, 0, 16), at::full({16}, 3.0, at::kDouble)));
  }
}

INSTANTIATE_TEST_SUITE_P(Strategies, UnshardedGradients,
                         testing::Values(DataParallelShardingStrategy::no_shard,
                                         DataParallelShardingStrategy::optim),
                         [](const auto& info) {
                           return info.param == DataParallelShardingStrategy::optim ? "optim"
                                                                                    : "no_shard";
                         });

// A parameter that is used more often than in the step before: its reduction has started already.
TEST(OverlappedReduction, RefusesAGradientAfterItsReduction) {
  Script script;
  const ScriptedModel model(script);
  DistributedDataParallel ddp(model.module_groups(),
                              overlapped(DataParallelShardingStrategy::no_shard),
                              commanded_group(script));
  ddp.zero_gradients();
  run_pass(model, ddp, script, /*is_last=*/true);
  ddp.finish_gradients();
  ddp.zero_gradients();
  run_pass(model, ddp, script, /*is_last=*/true);
  EXPECT_THROW(run_pass(model, ddp, script, /*is_last=*/false), std::exception);
}

// Layer 3 is unused and layer 2 is used twice, without and with recomputation.
TEST(OverlappedReduction, WaitsForTheLastOfSeveralGradients) {
  for (const bool recompute : {false, true}) {
    Script script;
    const ScriptedModel model(script);
    DistributedDataParallel ddp(model.module_groups(),
                                overlapped(DataParallelShardingStrategy::no_shard),
                                commanded_group(script));
    for (int step = 0; step < 3; ++step) {
      script.restart();
      ddp.zero_gradients();
      at::Tensor x = at::ones({2, 16}, at::kDouble).set_requires_grad(true);
      for (const int layer : {0, 2, 1, 2}) {
        x = recompute_if(
            recompute, [&, layer](const at::Tensor& y) { return model.layers[layer]->forward(y); },
            x);
      }
      const at::Tensor loss = x.sum();
      ddp.start_last_backward();
      torch::autograd::backward({loss}, {});
      script.add("backward over");
      ddp.finish_gradients();
      const double expected[] = {2, 2, 4, 0};
      for (int i = 0; i < kLayers; ++i) {
        EXPECT_TRUE(at::equal(ddp.owned_slices()[i].main_grad,
                              at::full({16, 16}, expected[i], at::kDouble)));
      }
      EXPECT_FALSE(script.happened(fmt::format("start all_reduce {}", kLayers)));
      if (step == 0) continue;
      EXPECT_EQ(script.count_before("backward 2", "start all_reduce 0"), 0);
      EXPECT_GE(script.count_before("backward 2", "start all_reduce 1"), 1);
      EXPECT_EQ(script.count_before("backward 1", "start all_reduce 1"), 1);
      EXPECT_LT(script.place("start all_reduce 2"), script.place("backward 0"));
    }
  }
}

// The gather of each bucket completes only after the layer before it has run.
TEST(OverlappedGather, IsWaitedForBeforeItsLayer) {
  for (const auto strategy :
       {DataParallelShardingStrategy::optim, DataParallelShardingStrategy::optim_grads}) {
    Script script;
    const ScriptedModel model(script);
    DistributedDataParallel ddp(model.module_groups(), overlapped(strategy),
                                commanded_group(script));
    ddp.begin_update();
    ddp.finish_update();
    for (int i = 0; i < kLayers; ++i)
      EXPECT_TRUE(script.happened(fmt::format("start all_gather {}", i)));
    for (int i = 1; i < kLayers; ++i)
      script.complete_after(fmt::format("all_gather {}", i), fmt::format("forward {}", i - 1));
    at::Tensor x = at::ones({2, 16}, at::kDouble);
    for (const auto& layer : model.layers) x = layer->forward(x);
    for (int i = 0; i < kLayers; ++i) {
      EXPECT_LT(script.place(fmt::format("wait all_gather {}", i)),
                script.place(fmt::format("forward {}", i)));
    }
  }
}

TEST(OverlappedGather, StartsAfterTheUpdateOfItsBucket) {
  Script script;
  const ScriptedModel model(script);
  DistributedDataParallel ddp(model.module_groups(),
                              overlapped(DataParallelShardingStrategy::optim),
                              commanded_group(script));
  ddp.begin_update();
  for (size_t count = 1; count <= ddp.owned_slices().size(); ++count) {
    EXPECT_EQ(ddp.owned_slices()[count - 1].parameter->name,
              fmt::format("layers.{}.weight", count - 1));
    EXPECT_FALSE(script.happened(fmt::format("start all_gather {}", count - 1)));
    ddp.slices_updated(count);
    EXPECT_TRUE(script.happened(fmt::format("start all_gather {}", count - 1)));
  }
  ddp.finish_update();
  EXPECT_FALSE(script.happened(fmt::format("start all_gather {}", kLayers)));
  EXPECT_FALSE(script.happened("wait all_gather 0"));
}

// ZeRO-3: layer i + 1 is gathered while layer i runs, and at most these two are unsharded.
TEST(OverlappedGather, PrefetchesOneLayer) {
  Script script;
  const ScriptedModel model(script);
  DistributedDataParallel ddp(model.module_groups(),
                              overlapped(DataParallelShardingStrategy::optim_grads_params),
                              commanded_group(script));
  for (const auto& layer : model.layers) EXPECT_FALSE(layer->is_unsharded());
  ddp.zero_gradients();
  for (int i = 1; i < kLayers; ++i)
    script.complete_after(fmt::format("all_gather {}", i), fmt::format("forward {}", i - 1));
  // Backward starts with the last layer, which is still unsharded.
  for (int i = kLayers; i < 2 * kLayers - 1; ++i) {
    script.complete_after(fmt::format("all_gather {}", i),
                          fmt::format("backward {}", 2 * kLayers - 1 - i));
  }
  for (int i = 0; i + 1 < kLayers; ++i) {
    script.complete_after(fmt::format("reduce_scatter {}", i),
                          fmt::format("backward {}", kLayers - 2 - i));
  }
  at::Tensor x = at::ones({2, 16}, at::kDouble).set_requires_grad(true);
  int most_unsharded = 0, most_gradients = 0;
  for (int i = 0; i < kLayers; ++i) {
    x.register_hook([&](const at::Tensor&) {
      const auto count = [&](auto&& predicate) {
        return static_cast<int>(std::ranges::count_if(model.layers, predicate));
      };
      most_unsharded =
          std::max(most_unsharded, count([](const auto& l) { return l->is_unsharded(); }));
      most_gradients =
          std::max(most_gradients, count([](const auto& l) { return l->gradient_is_allocated(); }));
    });
    x = model.layers[i]->forward(x);
  }
  torch::autograd::backward({x.sum()}, {});
  ddp.finish_gradients();
  for (int i = 1; i < kLayers; ++i) {
    EXPECT_LT(script.place(fmt::format("start all_gather {}", i)),
              script.place(fmt::format("forward {}", i - 1)));
  }
  EXPECT_FALSE(script.happened(fmt::format("start all_gather {}", 2 * kLayers - 1)));
  EXPECT_EQ(most_unsharded, 2);
  EXPECT_EQ(most_gradients, 2);
  for (const auto& layer : model.layers) {
    EXPECT_FALSE(layer->is_unsharded());
    EXPECT_FALSE(layer->gradient_is_allocated());
  }
}

}  // namespace
}  // namespace megatron
