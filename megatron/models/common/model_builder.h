// Base of the builders of all kinds of models (Megatron-Bridge's ModelBuilder). A builder is a
// factory: it holds its configuration unchanged and keeps nothing of what it builds.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "megatron/base/error.h"
#include "megatron/config/model/training_config.h"
#include "megatron/models/common/distributed_models.h"

namespace megatron {

// What Megatron takes from global state.
struct BuildOptions {
  std::optional<at::Device> device = {};  // default: that of the groups; meta allocates nothing
  // Of the initial weights, which are the same in every layout.
  uint64_t seed = static_cast<uint64_t>(TrainingConfig().seed);
  Logger logger = {};  // what is built; empty: warnings go to standard error
};

// A model chunk of type Model, and its data-parallel wrapper, which is null if it was not wrapped.
template <typename Model>
struct DistributedModel {
  std::shared_ptr<Model> module;
  std::shared_ptr<DistributedDataParallel> data_parallel;
};

template <typename Model>
std::vector<std::shared_ptr<Model>> modules_of(const std::vector<DistributedModel<Model>>& chunks) {
  std::vector<std::shared_ptr<Model>> modules;
  for (const auto& chunk : chunks) modules.push_back(chunk.module);
  return modules;
}

// Config derives from ModelConfig and holds a TransformerConfig `transformer`.
template <typename Model_, typename Config_>
class ModelBuilder {
 public:
  using Model = Model_;
  using Config = Config_;

  explicit ModelBuilder(Config model_config, BuildOptions options = {})
      : config_(std::move(model_config)), options_(std::move(options)) {}
  virtual ~ModelBuilder() = default;
  ModelBuilder(const ModelBuilder&) = delete;
  ModelBuilder& operator=(const ModelBuilder&) = delete;

  // Builds one chunk of this rank's pipeline stage. `pre_process` (it holds the embedding) and
  // `post_process` (it holds the output layer) default to the first and the last virtual stage.
  // `vp_stage` counts the rank's chunks from 0; it is required if there are several. Hooks do not
  // run. Weights are initialized unless transformer.perform_initialization is false; that may be
  // collective over the embedding group.
  virtual std::shared_ptr<Model> build_model(const ProcessGroupCollection& pg_collection,
                                             std::optional<bool> pre_process = {},
                                             std::optional<bool> post_process = {},
                                             std::optional<int> vp_stage = {}) const = 0;

  // Builds every chunk of this rank and prepares them for training. Collective over the world.
  std::vector<DistributedModel<Model>> build_distributed_models(
      const ProcessGroupCollection& pg_collection,
      const DistributedModelArguments& arguments = {}) const {
    check_arguments(arguments);
    check_groups(pg_collection);
    if (options_.logger && pg_collection.world->rank() == 0) {
      for (const std::string& line : description()) options_.logger(line);
    }
    ModelChunks chunks;
    const int count = num_chunks();
    for (int i = 0; i < count; ++i) {
      const std::optional<int> vp_stage = count > 1 ? std::optional(i) : std::nullopt;
      chunks.push_back({.module = build_model(pg_collection, {}, {}, vp_stage)});
    }
    chunks = make_distributed(std::move(chunks), config_, config_.transformer, pg_collection,
                              arguments, options_.logger);
    std::vector<DistributedModel<Model>> models;
    for (const ModelChunk& chunk : chunks) {
      auto model = std::dynamic_pointer_cast<Model>(chunk.module);
      check(model != nullptr,
            "Expected hooks and wrappers to return the builder's type of model, but got another");
      check_chunk(*model, pg_collection, static_cast<int>(models.size()));
      models.push_back({std::move(model), chunk.data_parallel});
    }
    return models;
  }

  // Lines for the log: the chunks of every pipeline stage and their layers.
  virtual std::vector<std::string> description() const { return {}; }

  const Config& config() const { return config_; }
  const BuildOptions& options() const { return options_; }

 protected:
  // Chunks of each rank.
  virtual int num_chunks() const { return 1; }
  // Throws Error unless `model`, which hooks may have replaced, is chunk `chunk` of this rank.
  virtual void check_chunk(const Model& /*model*/, const ProcessGroupCollection& /*groups*/,
                           int /*chunk*/) const {}
  at::Device device(const ProcessGroupCollection& groups) const {
    return options_.device.value_or(groups.world->device());
  }

 private:
  const Config config_;
  const BuildOptions options_;
};

}  // namespace megatron
