// A model whose layers record their passes in a Script.
#pragma once

#include <gtest/gtest.h>

#include "megatron/data_parallel/distributed_data_parallel.h"
#include "megatron/ops/matmul/linear.h"

#include "tests/data_parallel/commanded_backend.h"

namespace megatron {

inline constexpr int kLayers = 4;

// x W^T, with the weight's gradient added to main_grad. Records "forward i" once the output is
// computed and "backward i" once the input's gradient is.
class ScriptedLayer : public HookedModule {
 public:
  ScriptedLayer(Script& script, int number) : script_(script), number_(number) {
    weight_ = register_parameter(
        "weight", std::make_shared<Parameter>(
                      std::vector<int64_t>{16, 16}, at::TensorOptions().dtype(at::kDouble),
                      TensorParallelSharding{}, Initialization::constant(0)));
    const at::NoGradGuard no_grad;
    weight_->data.copy_(at::eye(16, at::kDouble));
    weight_->name = fmt::format("layers.{}.weight", number);
  }
  at::Tensor forward(const at::Tensor& x) const {
    return with_hooks([&] {
      EXPECT_TRUE(is_unsharded());
      const at::Tensor input = x * 1.0;
      if (input.requires_grad()) {
        input.register_hook(
            [this](const at::Tensor&) { script_.add(fmt::format("backward {}", number_)); });
      }
      const at::Tensor y = linear(input, weight_->data, {}, weight_->main_grad);
      script_.add(fmt::format("forward {}", number_));
      return y;
    });
  }
  bool is_unsharded() const { return weight_->data.storage().data() != nullptr; }
  bool gradient_is_allocated() const { return weight_->main_grad.storage().data() != nullptr; }

 private:
  Script& script_;
  int number_;
  ParameterPtr weight_;
};

struct ScriptedModel {
  explicit ScriptedModel(Script& script) {
    for (int i = 0; i < kLayers; ++i) layers.push_back(std::make_shared<ScriptedLayer>(script, i));
  }
  std::vector<ModuleGroup> module_groups() const {
    std::vector<ModuleGroup> groups;
    for (const auto& layer : layers)
      groups.push_back({layer, layer->parameters(), /*is_layer=*/true});
    return groups;
  }
  std::vector<std::shared_ptr<ScriptedLayer>> layers;
};

// Every overlap that the strategy has, with one bucket for each layer.
inline DistributedDataParallelConfig overlapped(DataParallelShardingStrategy strategy) {
  DistributedDataParallelConfig config;
  config.bucket_size = 1;
  config.overlap_grad_reduce = true;
  config.overlap_param_gather = strategy != DataParallelShardingStrategy::no_shard;
  config.use_megatron_fsdp = true;
  config.data_parallel_sharding_strategy = strategy;
  return config;
}

}  // namespace megatron
