// The models of a run, built by the builder that the configuration names.
#pragma once

#include "megatron/config/options/options.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// The arguments that the options select. Every rank draws the same initial weights, so none are
// broadcast.
DistributedModelArguments distributed_arguments(const Options& options);

// Builds and wraps this rank's chunks, with initial weights from --seed unless
// perform_initialization is false. `initialize` runs before they are wrapped, to set other weights.
// With --verbose the builder's log goes to standard output. Collective over the world.
DistributedGPTModels build_training_models(
    const Options& options, const ProcessGroupCollection& groups, const RankContext& rank,
    const std::function<void(const GPTModelChunks&)>& initialize = {});

// The chunks alone, with uninitialized weights, to load weights into them for inference.
GPTModelChunks build_inference_models(const Options& options, const ProcessGroupCollection& groups,
                                      const RankContext& rank);

}  // namespace megatron
