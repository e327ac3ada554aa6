// megatron parity: compares this program's numbers with those of another system, a case of
// megatron-core, a folder of Hugging Face or a GGUF file.
#include <fstream>
#include <functional>
#include <iostream>

#include "megatron/base/error.h"
#include "megatron/base/usage_error.h"
#include "megatron/config/options/options_json.h"
#include "megatron/config/validate/validate.h"
#include "megatron/parallel/launch.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/parity/case_sharing.h"
#include "megatron/parity/parity_run.h"
#include "megatron/parity/source_parity.h"

#include "cli/command.h"

namespace megatron {
namespace {

// Prints the comparison on the first rank and throws Error where it does not hold.
void report(const Comparison& comparison, const std::string& name, const Options& options,
            const RankContext& rank) {
  const double tolerance = options.parity.tolerance;
  const std::string& file_name = options.parity.json;
  if (rank.rank == 0 && file_name == "-") {
    std::cout << comparison.to_json(tolerance).dump(2) << std::endl;
  } else if (rank.rank == 0) {
    std::cout << fmt::format("case {}: {}\n{}", name,
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
  check(comparison.holds(tolerance),
        "Expected every difference of case {} within its bound, but some exceed it (see the table)",
        name);
}

int run_case(const ParsedCommand& command) {
  const ParityCase parity_case = ParityCase::open(command.options.parity.case_file);
  Options case_options = command.options;
  const std::vector<std::string> left_out =
      parity_case.configure(case_options, command.is_given("params_dtype") ||
                                              command.is_given("bf16") || command.is_given("fp16"));
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
    report(comparison, parity_case.name(), options, rank);
    return 0;
  });
}

// A folder of Hugging Face, or one with a model.gguf.
int run_source_case(const ParsedCommand& command) {
  if (command.is_given("params_dtype") || command.is_given("bf16") || command.is_given("fp16"))
    throw UsageError(
        "Expected no --params-dtype, --bf16 or --fp16 with --hf and --gguf, which compare in fp32, but "
        "got it; leave it out");
  const ParityConfig& parity = command.options.parity;
  const std::filesystem::path folder = parity.hf.empty() ? parity.gguf : parity.hf;
  const std::filesystem::path model = parity.hf.empty() ? folder / "model.gguf" : folder;
  const auto options_for = [&](int world_size) {
    Options options = command.options;
    configure_source_parity(options, folder, model);
    validate(options, world_size, Command::parity);
    return options;
  };
  if (const auto ranks = ranks_to_start(command.options.launch)) options_for(*ranks);
  return launch(command.options.launch, [&](RankContext& rank) {
    const Options options = options_for(rank.world_size);
    SourceModel source = open_source_model(model);
    const Comparison comparison = run_source_parity(source, folder, model, options, rank);
    report(comparison, folder.lexically_normal().filename().string(), options, rank);
    return 0;
  });
}

}  // namespace

int run_parity(const ParsedCommand& command) {
  const ParityConfig& parity = command.options.parity;
  const int given =
      int(!parity.case_file.empty()) + int(!parity.hf.empty()) + int(!parity.gguf.empty());
  if (given != 1)
    throw UsageError("Expected one of CASE-FILE, --hf and --gguf, but got none or several");
  return parity.case_file.empty() ? run_source_case(command) : run_case(command);
}

}  // namespace megatron
