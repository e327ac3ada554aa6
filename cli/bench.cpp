// megatron bench: the speed of training steps, or of decode, as one JSON object.
#include "megatron/training/bench.h"

#include <iostream>

#include "megatron/config/validate/validate.h"
#include "megatron/inference/decode_bench.h"
#include "megatron/parallel/launch.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/reporting/step_profiler.h"
#include "megatron/training/same_options.h"
#include "megatron/training/training_models.h"

#include "cli/command.h"

namespace megatron {
namespace {

nlohmann::json run_decode(const Options& options, RankContext& rank) {
  const ProcessGroupCollection groups = make_model_groups(options.model, rank);
  const GPTModelChunks chunks = build_inference_models(options, groups, rank);
  initialize_weights(chunks, static_cast<uint64_t>(options.training.seed));
  const BenchConfig& bench = options.bench;
  DecodeBenchOptions decode{.prompt_tokens = bench.prompt_tokens,
                            .new_tokens = bench.new_tokens,
                            .batch = bench.batch,
                            .warmup = bench.warmup_steps,
                            .repeats = bench.steps};
  if (!bench.weights.empty()) decode.weights = weight_format_from_name(bench.weights);
  return run_decode_bench(*chunks.front(), decode);
}

}  // namespace

int run_bench(const ParsedCommand& command) {
  if (const auto ranks = ranks_to_start(command.options.launch)) {
    Options options = command.options;
    validate(options, *ranks, Command::bench);
  }
  prepare_step_profiler(command.options);
  return launch(command.options.launch, [&](RankContext& rank) {
    check_same_options(command.options, rank);
    Options options = command.options;
    validate(options, rank.world_size, Command::bench);
    const nlohmann::json result =
        options.decode ? run_decode(options, rank) : run_bench(options, rank);
    if (rank.rank == 0) std::cout << result.dump(2) << std::endl;
    return 0;
  });
}

}  // namespace megatron
