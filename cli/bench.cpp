// megatron bench: the speed of training steps, as one JSON object.
#include "megatron/training/bench.h"

#include <iostream>

#include "megatron/config/validate/validate.h"
#include "megatron/parallel/launch.h"
#include "megatron/reporting/step_profiler.h"
#include "megatron/training/same_options.h"

#include "cli/command.h"

namespace megatron {

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
    const nlohmann::json result = run_bench(options, rank);
    if (rank.rank == 0) std::cout << result.dump(2) << std::endl;
    return 0;
  });
}

}  // namespace megatron
