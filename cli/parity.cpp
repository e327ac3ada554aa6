// megatron parity CASE.json: compares this program's numbers with those of another system.
#include <fstream>
#include <iostream>

#include "megatron/base/error.h"
#include "megatron/config/options_json.h"
#include "megatron/config/validate.h"
#include "megatron/parallel/launch.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/parity/parity_run.h"

#include "cli/command.h"

namespace megatron {

int run_parity(const ParsedCommand& command) {
  const ParityCase parity_case = ParityCase::open(command.options.parity.case_file);
  return launch(command.options.launch, [&](RankContext& rank) {
    Options options = command.options;
    parity_case.configure(options, command.is_given("params_dtype") || command.is_given("bf16"));
    validate(options, rank.world_size, Command::parity);
    const Comparison comparison = run_parity(parity_case, options, rank);
    const double tolerance = options.parity.tolerance;
    if (rank.rank == 0) {
      std::cout << fmt::format("case {}: {}\n{}", parity_case.name(),
                               describe_world(options.model.transformer, rank),
                               comparison.table(tolerance));
      std::cout << (comparison.holds(tolerance) ? "PASS" : "FAIL") << std::endl;
      if (!options.parity.json.empty()) {
        std::ofstream file(options.parity.json);
        file << comparison.to_json(tolerance).dump(2) << '\n';
        file.close();
        check(file.good(), "Expected to write --json {}, but could not", options.parity.json);
      }
    }
    check(
        comparison.holds(tolerance),
        "Expected every difference of case {} within its bound, but some exceed it (see the table)",
        parity_case.name());
    return 0;
  });
}

}  // namespace megatron
