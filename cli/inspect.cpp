// `megatron inspect`: the content of a checkpoint or a safetensors file, as a table or as JSON.
#include <fstream>
#include <iostream>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_summary.h"

#include "cli/command.h"

namespace megatron {

int run_inspect(const ParsedCommand& command) {
  const auto summary = summarize_checkpoint(command.options.inspect.checkpoint);
  const std::string& file = command.options.parity.json;  // --json of parity and inspect
  const auto as_json = [&] {
    return summary.dump(/*indent=*/1, ' ', /*ensure_ascii=*/false,
                        nlohmann::json::error_handler_t::replace) +
           "\n";
  };
  if (file == "-") {
    std::cout << as_json();
  } else {
    std::cout << format_checkpoint_summary(summary);
  }
  if (!file.empty() && file != "-") {
    std::ofstream stream(file);
    stream << as_json() << std::flush;
    check(stream.good(), "Expected to write --json {}, but could not", file);
  }
  const auto damage = summary.value("damage", std::vector<std::string>());
  check(damage.empty(), "{}", fmt::join(damage, "; "));
  return 0;
}

}  // namespace megatron
