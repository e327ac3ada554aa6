// megatron parity CASE.json: compares this program's numbers with those of another system.
#include <fstream>
#include <iostream>

#include "megatron/base/error.h"
#include "megatron/config/options/options_json.h"
#include "megatron/config/validate/validate.h"
#include "megatron/parallel/launch.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/parity/case_sharing.h"
#include "megatron/parity/parity_run.h"

#include "cli/command.h"

namespace megatron {

int run_parity(const ParsedCommand& command) {
  const ParityCase parity_case = ParityCase::open(command.options.parity.case_file);
  Options case_options = command.options;
  const std::vector<std::string> left_out = parity_case.configure(
      case_options, command.is_given("params_dtype") || command.is_given("bf16"));
  const auto options_for = [&](int world_size) {
    Options options = case_options;
    validate(options, world_size, Command::parity);
    check_case_layout(parity_case, options.model.transformer, world_size);
    return options;
  };
  if (const auto ranks = ranks_to_start(command.options.launch)) options_for(*ranks);
  return launch(command.options.launch, [&](RankContext& rank) {
    const Options options = options_for(rank.world_size);
    Comparison comparison = run_parity(parity_case, options, rank);
    for (const std::string& line : left_out) comparison.note(line);
    const double tolerance = options.parity.tolerance;
    const std::string& file_name = options.parity.json;
    if (rank.rank == 0 && file_name == "-") {
      std::cout << comparison.to_json(tolerance).dump(2) << std::endl;
    } else if (rank.rank == 0) {
      std::cout << fmt::format("case {}: {}\n{}", parity_case.name(),
                               describe_world(options.model.transformer, options.ddp, rank),
                               comparison.table(tolerance));
      std::cout << (comparison.holds(tolerance) ? "PASS" : "FAIL") << std::endl;
      if (!file_name.empty()) {
        std::ofstream file(file_name);
        file << comparison.to_json(tolerance).dump(2) << '\n';
        file.close();
        check(file.good(), "Expected to write --json {}, but could not", file_name);
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
