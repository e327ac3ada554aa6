// Wraps chunks whose weights a test has set, with the builder's steps and the options' arguments.
#pragma once

#include "megatron/training/training_models.h"

namespace megatron {

inline DistributedGPTModels wrapped(const GPTModelChunks& chunks, const Options& options) {
  ModelChunks plain;
  for (const auto& chunk : chunks) plain.push_back({.module = chunk});
  DistributedGPTModels models;
  for (const ModelChunk& chunk :
       make_distributed(plain, options.model, options.model.transformer, chunks.front()->groups(),
                        distributed_arguments(options), /*logger=*/{}))
    models.push_back({std::dynamic_pointer_cast<GPTModel>(chunk.module), chunk.data_parallel});
  return models;
}

inline DistributedGPTModels wrapped(std::shared_ptr<GPTModel> model, const Options& options) {
  return wrapped(GPTModelChunks{std::move(model)}, options);
}

}  // namespace megatron
