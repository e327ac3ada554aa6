// check_for_nan_in_grad: the rank and the parameter of a gradient that is not finite.
#include <cmath>
#include <gmock/gmock.h>

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/data_parallel/scripted_model.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

// One backward pass with a factor for the gradient of layer 1 alone.
void run_step(const DistributedDataParallelConfig& config, double factor) {
  Script script;
  const ScriptedModel model(script);
  DistributedDataParallel ddp(model.module_groups(), config, commanded_group(script));
  ddp.zero_gradients();
  at::Tensor x = at::ones({2, 16}, at::kDouble).set_requires_grad(true);
  for (int layer = 0; layer < kLayers; ++layer) {
    x = model.layers[layer]->forward(x);
    if (layer == 0) x = x.detach().set_requires_grad(true);
    if (layer == 1) x.register_hook([=](const at::Tensor& gradient) { return gradient * factor; });
  }
  const at::Tensor loss = x.sum();
  ddp.start_last_backward();
  torch::autograd::backward({loss}, {});
  ddp.finish_gradients();
}

TEST(FiniteGradients, AreCheckedBeforeEveryReduction) {
  std::vector<DistributedDataParallelConfig> configs = {{}, {}, {}};
  configs[1].use_distributed_optimizer = true;
  configs[2].use_torch_fsdp2 = true;
  for (const Strategy strategy : {Strategy::optim_grads, Strategy::optim_grads_params})
    configs.push_back({.use_megatron_fsdp = true, .data_parallel_sharding_strategy = strategy});
  for (DistributedDataParallelConfig config : configs) {
    for (const bool overlap : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", describe_sharing(config), overlap));
      config.overlap_grad_reduce = overlap;
      for (const double bad : {double(NAN), double(INFINITY)}) {
        config.check_for_nan_in_grad = true;
        EXPECT_NO_THROW(run_step(config, 1));
        EXPECT_THAT([&] { run_step(config, bad); },
                    testing::ThrowsMessage<std::exception>(testing::HasSubstr(
                        "Expected finite gradients before their reduction, but got NaN or "
                        "infinity in that of layers.1.weight on rank 0")));
        config.check_for_nan_in_grad = false;
        EXPECT_NO_THROW(run_step(config, bad));
      }
    }
  }
}

}  // namespace
}  // namespace megatron
