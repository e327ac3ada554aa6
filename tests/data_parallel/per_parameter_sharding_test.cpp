// use_torch_fsdp2: every parameter is divided by rows, as torch.chunk does, with one collective for
// each unit.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/data_parallel/per_parameter_sharding_strategy.h"
#include "megatron/ops/recompute.h"

#include "tests/data_parallel/row_model.h"
#include "tests/data_parallel/scripted_model.h"

namespace megatron {
namespace {

constexpr DistributedDataParallelConfig kTorchFsdp2 = {.use_torch_fsdp2 = true};

bool is_allocated(const at::Tensor& tensor) {
  return tensor.storage().data() != nullptr;
}

// The slices that `ddp` should own: the rank's chunk of each parameter, in forward order.
void expect_chunks(const DistributedDataParallel& ddp, const std::vector<ParameterPtr>& parameters,
                   const std::vector<at::Tensor>& values, const char* what,
                   const std::function<at::Tensor(const ParameterSlice&)>& tensor_of) {
  const int rank = ddp.group().rank();
  auto slice = ddp.owned_slices().begin();
  for (size_t i = 0; i < parameters.size(); ++i) {
    SCOPED_TRACE(fmt::format("{} of {} on rank {}", what, parameters[i]->name, rank));
    const std::vector<at::Tensor> chunks = values[i].chunk(ddp.group().size(), /*dim=*/0);
    if (rank >= std::ssize(chunks)) continue;
    ASSERT_NE(slice, ddp.owned_slices().end());
    EXPECT_EQ(slice->parameter, parameters[i]);
    EXPECT_EQ(slice->begin, rank * chunks[0].numel());
    EXPECT_EQ(tensor_of(*slice).sizes(), chunks[rank].sizes());
    EXPECT_TRUE(at::equal(tensor_of(*slice), chunks[rank]));
    ++slice;
  }
  EXPECT_EQ(slice, ddp.owned_slices().end());
}

TEST(PerParameterSharding, ARankOwnsItsChunkOfEveryParameter) {
  for (const int ranks : {1, 2, 3, 4, 5}) {
    run_data_parallel(ranks, [&](const ProcessGroupPtr& dp) {
      const ShapedModel model;
      const std::vector<ParameterPtr> parameters = model.parameters();
      std::vector<at::Tensor> values, gradients;
      for (const ParameterPtr& parameter : parameters)
        values.push_back(parameter->data.detach().clone());
      DistributedDataParallel ddp(model.groups, kTorchFsdp2, dp);
      EXPECT_TRUE(ddp.is_sharded());
      expect_chunks(ddp, parameters, values, "values",
                    [](const ParameterSlice& slice) { return slice.data.detach(); });
      for (const ParameterPtr& parameter : parameters)
        EXPECT_FALSE(is_allocated(parameter->data)) << parameter->name;

      ddp.unshard_parameters();
      for (size_t i = 0; i < parameters.size(); ++i)
        EXPECT_TRUE(at::equal(parameters[i]->data, values[i])) << parameters[i]->name;
      ddp.reshard_parameters();
      EXPECT_FALSE(is_allocated(parameters[0]->data));
    });
  }
}

// The first unit has a gradient for the entire step, on every rank its number times the values.
TEST(PerParameterSharding, GradientsAreSummedIntoTheChunks) {
  for (const int ranks : {1, 2, 3, 4}) {
    run_data_parallel(ranks, [&](const ProcessGroupPtr& dp) {
      const ShapedModel model;
      DistributedDataParallel ddp(model.groups, kTorchFsdp2, dp);
      ddp.zero_gradients();
      std::vector<at::Tensor> sums;
      for (const ParameterPtr& parameter : model.groups[0].parameters) {
        const at::Tensor values =
            at::arange(parameter->data.numel(), at::kDouble).view_as(parameter->data) + 1;
        parameter->main_grad.add_(values, dp->rank() + 1);
        sums.push_back(values * (ranks * (ranks + 1) / 2));
      }
      ddp.finish_gradients();
      for (const ParameterSlice& slice : ddp.owned_slices()) {
        const auto place = std::ranges::find(model.groups[0].parameters, slice.parameter);
        if (place == model.groups[0].parameters.end()) {
          EXPECT_EQ(slice.main_grad.abs().sum().item<double>(), 0);
          continue;
        }
        const at::Tensor& sum = sums[place - model.groups[0].parameters.begin()];
        EXPECT_TRUE(at::equal(slice.main_grad, sum.chunk(ranks, 0)[dp->rank()]));
      }
      ddp.unshard_gradients();
      for (size_t i = 0; i < sums.size(); ++i)
        EXPECT_TRUE(at::equal(model.groups[0].parameters[i]->main_grad, sums[i]));
    });
  }
}

// A layer is complete while it runs; the next layer's forward pass frees it.
TEST(PerParameterSharding, ForwardUnshardsALayerAndFreesTheOneBefore) {
  for (const bool reshards : {true, false}) {
    run_data_parallel(2, [&](const ProcessGroupPtr& dp) {
      const ShapedModel model;
      DistributedDataParallelConfig config = kTorchFsdp2;
      config.torch_fsdp2_reshard_after_forward = reshards;
      DistributedDataParallel ddp(model.groups, config, dp);
      const auto is_unsharded = [&](size_t unit) {
        return is_allocated(model.groups[unit].parameters[0]->data);
      };
      for (size_t unit = 0; unit < model.modules.size(); ++unit) {
        model.modules[unit]->forward();
        for (const ParameterPtr& parameter : model.groups[unit].parameters) {
          EXPECT_TRUE(at::equal(parameter->data.view(-1),
                                at::arange(parameter->data.numel(), at::kDouble)));
        }
      }
      EXPECT_TRUE(is_unsharded(0));  // the root
      EXPECT_EQ(is_unsharded(1), !reshards);
      EXPECT_TRUE(is_unsharded(2));  // backward begins with it
      ddp.reshard_parameters();
      for (size_t unit = 0; unit < model.modules.size(); ++unit) EXPECT_FALSE(is_unsharded(unit));
    });
  }
}

TEST(PerParameterSharding, HasOneCollectiveForEachUnit) {
  Script script;
  const ShapedModel model;
  DistributedDataParallel ddp(model.groups, kTorchFsdp2, commanded_group(script));
  for (const auto& module : model.modules) module->forward();
  EXPECT_TRUE(script.happened("start all_gather 2"));
  EXPECT_FALSE(script.happened("start all_gather 3"));
  ddp.zero_gradients();
  ddp.finish_gradients();
  EXPECT_TRUE(script.happened("start reduce_scatter 0"));  // the root; no layer ran backward
  EXPECT_FALSE(script.happened("start reduce_scatter 1"));
}

// Most layers whose full parameters and gradients exist at once during a pass with backward.
struct Peaks {
  int parameters = 0, gradients = 0;
};

Peaks peaks_of(const DistributedDataParallelConfig& config, bool recompute, Script& script) {
  const ScriptedModel model(script);
  DistributedDataParallel ddp(model.module_groups(), config, commanded_group(script));
  ddp.zero_gradients();
  Peaks peaks;
  const auto measure = [&] {
    const auto count = [&](auto&& predicate) {
      return static_cast<int>(std::ranges::count_if(model.layers, predicate));
    };
    peaks.parameters =
        std::max(peaks.parameters, count([](const auto& l) { return l->is_unsharded(); }));
    peaks.gradients =
        std::max(peaks.gradients, count([](const auto& l) { return l->gradient_is_allocated(); }));
  };
  at::Tensor x = at::ones({2, 16}, at::kDouble).set_requires_grad(true);
  for (const auto& layer : model.layers) {
    x.register_hook([&](const at::Tensor&) { measure(); });
    x = recompute_if(
        recompute,
        [&](const at::Tensor& y) {
          const at::Tensor output = layer->forward(y);
          measure();
          return output;
        },
        x);
  }
  torch::autograd::backward({x.sum()}, {});
  ddp.finish_gradients();
  for (const auto& layer : model.layers) {
    EXPECT_FALSE(layer->is_unsharded());
    EXPECT_FALSE(layer->gradient_is_allocated());
  }
  return peaks;
}

TEST(PerParameterSharding, FreesFullLayersBetweenTheirPasses) {
  DistributedDataParallelConfig overlapped_config = {
      .overlap_grad_reduce = true, .overlap_param_gather = true, .use_torch_fsdp2 = true};
  for (const bool recompute : {false, true}) {
    Script script;
    const Peaks plain = peaks_of(kTorchFsdp2, recompute, script);
    EXPECT_EQ(plain.parameters, 1) << recompute;
    EXPECT_LE(plain.gradients, 1) << recompute;
    script.restart();
    const Peaks overlapped = peaks_of(overlapped_config, recompute, script);
    EXPECT_EQ(overlapped.parameters, 2) << recompute;  // the next one is gathered meanwhile
    EXPECT_LE(overlapped.gradients, 2) << recompute;   // one is being reduced
  }
}

// Without resharding after forward each layer is gathered once.
TEST(PerParameterSharding, GathersOnceWithoutReshardingAfterForward) {
  for (const bool reshards : {true, false}) {
    Script script;
    DistributedDataParallelConfig config = kTorchFsdp2;
    config.torch_fsdp2_reshard_after_forward = reshards;
    const Peaks peaks = peaks_of(config, /*recompute=*/false, script);
    EXPECT_EQ(peaks.parameters, reshards ? 1 : kLayers);
    EXPECT_EQ(script.happened(fmt::format("start all_gather {}", kLayers)), reshards);
    EXPECT_TRUE(script.happened(fmt::format("start all_gather {}", kLayers - 1)));
    // Backward begins with the last layer, which is still unsharded.
    EXPECT_EQ(script.happened(fmt::format("start all_gather {}", 2 * kLayers - 2)), reshards);
  }
}

}  // namespace
}  // namespace megatron
