// A second kind of model with its own configuration and builder: next-token logits from one table.
// It shows what the bases ModelConfig and ModelBuilder ask of a model, and what they give it.
#pragma once

#include <optional>
#include <string>

#include "megatron/config/model/config_fields.h"
#include "megatron/models/common/builder_registry.h"
#include "megatron/models/common/initialize_weights.h"

namespace megatron {

struct BigramModelConfig : ModelConfig {
  std::string builder = "tests.BigramModelBuilder";
  TransformerConfig transformer = {};  // the layout and the precision
  std::optional<int64_t> vocab_size = {};
  double temperature = 1.0;
};

inline ConfigFields fields_of(BigramModelConfig& config) {
  std::vector<ConfigField> fields = base_fields(config);
  fields.push_back({"vocab_size", field_value(config.vocab_size)});
  fields.push_back({"temperature", field_value(config.temperature)});
  return {.target = "tests.BigramModelConfig",
          .fields = std::move(fields),
          .nested = {{"transformer", fields_of(config.transformer)}},
          .builder = &config.builder};
}

class BigramTable : public HookedModule {
 public:
  BigramTable(int64_t v, at::TensorOptions options) {
    const auto replicated = [&](std::vector<int64_t> shape, Initialization initialization) {
      return std::make_shared<Parameter>(std::move(shape), options, TensorParallelSharding{},
                                         initialization);
    };
    weight_ = register_parameter("weight", replicated({v, v}, Initialization::normal(1)));
    scale_ = register_parameter("scale", replicated({1}, Initialization::constant(1)));
    scale_->keep_fp32 = true;
  }
  at::Tensor forward(const at::Tensor& ids) const {
    return with_hooks([&] { return at::embedding(weight_->data, ids) * scale_->data; });
  }

 private:
  ParameterPtr weight_, scale_;
};

class BigramModel : public MegatronModule, public GroupedModule {
 public:
  BigramModel(const BigramModelConfig& config, at::TensorOptions options)
      : temperature_(config.temperature) {
    table_ = register_module("table", std::make_shared<BigramTable>(*config.vocab_size, options));
    assign_names();
  }
  // [b, s] -> logits [b, s, v].
  at::Tensor forward(const at::Tensor& ids) const { return table_->forward(ids) / temperature_; }
  std::vector<ModuleGroup> module_groups() const override {
    return {{table_, trainable(parameters())}};
  }

 private:
  double temperature_;
  std::shared_ptr<BigramTable> table_;
};

class BigramModelBuilder : public ModelBuilder<BigramModel, BigramModelConfig> {
 public:
  using ModelBuilder::ModelBuilder;
  std::shared_ptr<BigramModel> build_model(const ProcessGroupCollection& pg_collection,
                                           std::optional<bool> /*pre_process*/ = {},
                                           std::optional<bool> /*post_process*/ = {},
                                           std::optional<int> vp_stage = {}) const override {
    check(config().vocab_size.has_value(), "Expected vocab_size, but got none");
    check(vp_stage.value_or(0) == 0, "Expected one chunk per rank, but got vp_stage {}",
          vp_stage.value_or(0));
    auto model = std::make_shared<BigramModel>(
        config(),
        at::TensorOptions().dtype(config().transformer.params_dtype).device(device(pg_collection)));
    initialize_weights(static_cast<const MegatronModule&>(*model), options().seed);
    return model;
  }
};

}  // namespace megatron
