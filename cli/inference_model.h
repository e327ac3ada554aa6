// The model of --load for subcommands that run the inference engine.
#pragma once

#include <functional>
#include <memory>

#include "megatron/config/options/command_line.h"
#include "megatron/inference/run_requests.h"
#include "megatron/parallel/launch.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct InferenceModel {
  Options options;  // of the model and the command line
  std::shared_ptr<const Tokenizer> tokenizer;
  ProcessGroupCollection groups;
  GPTModelChunks chunks;
};

// Starts the ranks, loads the model on each and calls `run`. Returns the exit status.
int run_with_model(const ParsedCommand& command, Command name,
                   const std::function<void(const InferenceModel&, const RankContext&)>& run);

RunRequestsOptions engine_options(const GenerationConfig& generation, const Tokenizer& tokenizer);

}  // namespace megatron
